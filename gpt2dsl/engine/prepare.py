"""Data preparation: texts into MindRecord files, and tokenizer training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2dsl.data import mindrecord_writing
from gpt2dsl.data.classes import Classes
from gpt2dsl.data.examples import Examples
from gpt2dsl.data.form import DataFormat, refuse_other_than_text
from gpt2dsl.data.source import Source
from gpt2dsl.data.table import CLASSES
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.tokens import stream
from gpt2dsl.engine.progress import Bar, ByteBar
from gpt2dsl.errors import FileError, InputError, RunError
from gpt2dsl.files import atomic, cache


def opened(
    name: str,
    *,
    form: str | None,
    text_column: str,
    header: bool,
    quotes: bool,
    max_bad_rows: int,
    label_column: str = "label",
) -> Source:
    """Open the data that a command line names.

    Args:
        name: data source, as in a recipe.
        form: ``data.format``; None for text, which refuses file names of another format.
        text_column: name of the text column; digits are its index.
        header: ``data.header``.
        quotes: ``data.quotes``.
        max_bad_rows: ``data.max_bad_rows``.
        label_column: name of the label column, as ``text_column``.

    Raises:
        InputError: the data is absent or empty.
    """
    text, label = (
        int(column) if column.isdigit() else column for column in (text_column, label_column)
    )
    described = DataFormat(
        format=form or "text",
        text=text,
        label=label,
        header=header,
        quotes=quotes,
        max_bad_rows=max_bad_rows,
        plain_quotes="--no-quotes",
    )
    source = Source.open(name, described)
    if form is None:
        refuse_other_than_text(name, (file.path for file in source.files), "--format {}")
    return source


def prepare(
    source: Source,
    target: Path,
    *,
    seq_length: int,
    evaluation: bool = False,
    tokenizer: str = "gpt2",
    shards: int = 1,
) -> dict[str, Any]:
    """Tokenise texts into a folder of MindRecord files.

    Args:
        source: the texts.
        target: the folder; it must not exist.
        seq_length: sequence length of the model; rows for training have one more token.
        evaluation: write rows of ``seq_length`` tokens, with a masked incomplete last row.
        tokenizer: gpt2, or a folder.
        shards: number of files.

    Raises:
        InputError: the data or the tokenizer is unusable, or there is too little text (G2-305).
        RunError: the target exists already or can't be written.
    """
    vocabulary = Tokenizer.load(tokenizer)
    with ByteBar("encoding", source.size) as bar:
        tokens = stream(source, vocabulary, bar.to)
    length = seq_length if evaluation else seq_length + 1
    rows = len(tokens) // length + (evaluation and len(tokens) % length > 1)
    if rows < shards:
        message = f"{len(tokens):,} tokens give {rows} rows of {length:,}, {shards} files need more"
        raise InputError("G2-305", source.name, message)
    with _folder(target) as folder, Bar("writing rows", rows) as steps:
        mindrecord_writing.write(
            folder,
            mindrecord_writing.cut(tokens, length, tail=evaluation),
            (rows, length),
            shards=shards,
            integers=mindrecord_writing.TEXT,
            moved=lambda n: steps.step("", n),
        )
    return {"target": str(target), "rows": rows, "row_tokens": length, "tokens": len(tokens)}


def prepare_classes(
    source: Source,
    target: Path,
    names: Sequence[str],
    *,
    seq_length: int,
    tokenizer: str = "gpt2",
    shards: int = 1,
) -> dict[str, Any]:
    """Tokenise labelled texts into a folder of MindRecord files.

    Args:
        source: the texts, in a format with classes.
        target: the folder; it must not exist.
        names: class names.
        seq_length: tokens of a row; longer texts are truncated, shorter ones padded on the right.
        tokenizer: gpt2, or a folder.
        shards: number of files.

    Raises:
        SpecError: rows are invalid, or have a label that is not in ``names`` (G2-309).
        InputError: the data or the tokenizer is unusable, the data has other classes (G2-317), or
            too few rows (G2-305).
        RunError: the target exists already or can't be written.
    """
    expected = CLASSES.get(source.form.format, len(names))
    if expected != len(names):
        message = f"{source.form.format} has {expected} classes, --labels says {len(names)}"
        raise InputError("G2-317", source.name, message)
    vocabulary = Tokenizer.load(tokenizer)
    examples = Examples.read(source, vocabulary, Classes(names, source.form), seq_length)
    if len(examples) < shards:
        message = f"{len(examples)} rows, {shards} files need more"
        raise InputError("G2-305", source.name, message)
    with _folder(target) as folder, Bar("writing rows", len(examples)) as steps:
        mindrecord_writing.write(
            folder,
            mindrecord_writing.with_classes(
                examples.ids, examples.classes.tolist(), seq_length, examples.pad
            ),
            (len(examples), seq_length),
            shards=shards,
            integers=mindrecord_writing.CLASSES,
            moved=lambda n: steps.step("", n),
        )
    return {
        "target": str(target),
        "rows": len(examples), "row_tokens": seq_length, "classes": len(names),
    }  # fmt: skip


def train_tokenizer(source: Source, target: Path, vocab: int) -> int:
    """Train a tokenizer, save it in a folder and return its vocabulary size.

    Raises:
        InputError: the text is unusable.
        RunError: the target exists already or can't be written.
    """
    tokenizer = Tokenizer.train(source.documents(), vocab)
    with _folder(target) as folder:
        tokenizer.save(folder)
    return len(tokenizer)


@contextmanager
def _folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that gets its final name once it is complete."""
    final = cache.expanded(target).absolute()
    if final.exists():
        raise RunError("G2-308", f"{target}: it is there already")
    try:
        with atomic.writing_folder(final) as folder:
            yield folder
    except OSError as error:
        raise FileError.unwritable(target, error) from error
