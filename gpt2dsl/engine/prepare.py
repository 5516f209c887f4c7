"""Data ahead of time: texts into MindRecord, and vocabularies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2dsl.data import mindrecord_writing
from gpt2dsl.data.classes import Classes
from gpt2dsl.data.examples import Examples
from gpt2dsl.data.form import Form, refuse_other_than_text
from gpt2dsl.data.source import Source
from gpt2dsl.data.table import CLASSES
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.data.tokens import stream
from gpt2dsl.engine.progress import Bar, ByteBar
from gpt2dsl.errors import InputError, RunError
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
    """Return the data that a command line names.

    Args:
        name: as in a recipe.
        form: ``data.format``; text where it is not said, unless names of files say another one.
        text_column: a column's name; a number where it looks like one.
        header: ``data.header``.
        quotes: ``data.quotes``.
        max_bad_rows: ``data.max_bad_rows``.
        label_column: as ``text_column``.

    Raises:
        InputError: it is absent or empty.
    """
    text, label = (
        int(column) if column.isdigit() else column for column in (text_column, label_column)
    )
    described = Form(
        format=form or "text",
        text=text,
        label=label,
        header=header,
        quotes=quotes,
        max_bad_rows=max_bad_rows,
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
        target: the folder; it must not be there.
        seq_length: tokens that a model reads at once; rows for training hold one more.
        evaluation: rows of ``seq_length`` tokens, and what is left at the end, masked.
        tokenizer: gpt2, or a folder.
        shards: files.

    Raises:
        InputError: the data or the tokenizer can't be used, or there is too little text (G2-305).
        RunError: the target is there already or can't be written.
    """
    words = Tokenizer.load(tokenizer)
    with ByteBar("encoding", source.size) as bar:
        tokens = stream(source, words, bar.to)
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
    """Tokenise texts with classes into a folder of MindRecord files.

    Args:
        source: the texts, in a form that has classes.
        target: the folder; it must not be there.
        names: of the classes.
        seq_length: tokens of a row; of a longer text the beginning is written, a shorter one is
            padded on the right.
        tokenizer: gpt2, or a folder.
        shards: files.

    Raises:
        SpecError: rows can't be used, or name no class of these (G2-309).
        InputError: the data or the tokenizer can't be used, it has other classes (G2-306), or there
            are too few rows (G2-305).
        RunError: the target is there already or can't be written.
    """
    wanted = CLASSES.get(source.form.format, len(names))
    if wanted != len(names):
        message = f"{source.form.format} has {wanted} classes, --labels says {len(names)}"
        raise InputError("G2-306", source.name, message)
    words = Tokenizer.load(tokenizer)
    found = Examples.read(source, words, Classes(names, source.form), seq_length)
    if len(found) < shards:
        message = f"{len(found)} rows, {shards} files need more"
        raise InputError("G2-305", source.name, message)
    with _folder(target) as folder, Bar("writing rows", len(found)) as steps:
        mindrecord_writing.write(
            folder,
            mindrecord_writing.with_classes(
                found.ids, found.classes.tolist(), seq_length, found.pad
            ),
            (len(found), seq_length),
            shards=shards,
            integers=mindrecord_writing.CLASSES,
            moved=lambda n: steps.step("", n),
        )
    return {
        "target": str(target), "rows": len(found), "row_tokens": seq_length, "classes": len(names),
    }  # fmt: skip


def train_tokenizer(source: Source, target: Path, vocab: int) -> int:
    """Train a vocabulary into a folder; gives its size.

    Raises:
        InputError: the text can't be used.
        RunError: the target is there already or can't be written.
    """
    tokenizer = Tokenizer.train(source.documents(), vocab)
    with _folder(target) as folder:
        tokenizer.save(folder)
    return len(tokenizer)


@contextmanager
def _folder(target: Path) -> Iterator[Path]:
    """Yield a folder to write into, which gets its name once all of it is there."""
    final = cache.expanded(target).absolute()
    if final.exists():
        raise RunError(f"{target}: it is there already")
    try:
        with atomic.writing_folder(final) as folder:
            yield folder
    except OSError as error:
        raise RunError(f"{target}: it can't be written: {error.strerror or error}") from error
