"""MindRecord, MindSpore's file format for rows, on which MindFormers trains.

A row has ``input_ids``, ``attention_mask`` and ``labels``. Text has as many labels as ids, as
written by wikitext2_data_process.py of MindFormers 0.8.0; labelled texts have one label, as
written by its txtcls_dataset_to_mindrecord.py. Each file has an index, an SQLite database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.data.block_rows import BlockRows
from gpt2dsl.data.rows import Ids
from gpt2dsl.data.source import Source
from gpt2dsl.errors import FileError, InputError
from gpt2dsl.files import atomic, cache

FIELDS = ("input_ids", "attention_mask", "labels")

FORMAT = 2
"""Version of the cached arrays: incremented whenever the same files give other arrays."""

OTHERS = ("position_ids", "token_type_ids", "head_mask", "inputs_embeds", "loss_mask")
"""Columns that would change the loss; files with them are refused."""

Row = dict[str, NDArray[np.integer[Any]]]

INT32 = np.iinfo(np.int32)


def files(source: Source) -> list[Path]:
    """Return the files of rows of a source, without their indexes."""
    return [file.path for file in source.files]


def count(source: Source) -> int:
    """Return the number of rows of a source from its indexes, without MindSpore.

    Raises:
        InputError: an index is absent (G2-301) or damaged (G2-304).
    """
    return sum(map(_indexed, files(source)))


def _indexed(path: Path) -> int:
    index = path.with_name(f"{path.name}.db")
    if not index.exists():
        raise InputError("G2-301", index, "the index of a MindRecord file is not there")
    try:
        with closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return int(database.execute("select count(*) from INDEXES").fetchone()[0])
    except (sqlite3.Error, TypeError) as error:
        raise InputError("G2-304", index, f"it is no index of MindRecord: {error}") from error


def read(source: Source) -> BlockRows:
    """Return rows of text, from the cache, where they are memory-mapped.

    Raises:
        InputError: a file is damaged (G2-304), or a row is unusable (G2-309): its length
            differs, it has no ids, padding before a token, or a class.
    """
    array = _cached(source, "rows", _text)  # [3, rows, row_tokens]
    return BlockRows(array[0], array[1], array[2], source.name)


def read_classes(source: Source) -> tuple[Ids, Ids, Ids]:
    """Return ids ``[rows, row_tokens]``, their counts and classes, both ``[rows]``.

    Raises:
        InputError: same as ``read``; or a row has no class.
    """
    array = _cached(source, "classes", _classes)  # [rows, row_tokens + 2]
    return array[:, :-2], array[:, -2], array[:, -1]


def changing(column: str) -> str:
    """Return the reason to refuse a file with a column."""
    return f"its column {column} would change the loss, and is not built here; leave it out"


def _cached(source: Source, kind: str, arrays: Callable[[Source], Ids]) -> Ids:
    """Return the arrays of a source from the cache, which is filled if necessary."""
    path = cache.folder("records") / f"{source.digest()[:32]}-{kind}-v{FORMAT}.npy"
    if not path.exists():
        rows = arrays(source)
        try:
            atomic.write_file(path, lambda file: np.save(file, rows))
        except OSError as error:
            message = f"{path}: the cache can't be written: {error.strerror or error}"
            raise FileError("G2-403", message) from error
    cached: Ids = np.load(path, mmap_mode="r")
    return cached


def _text(source: Source) -> Ids:
    """Return ids, masks and labels, ``[3, rows, row_tokens]``."""
    arrays = np.zeros((3, 0, 0), np.int32)
    for number, total, row in _rows(source):
        ids, mask, labels = _ids(row, number, source)
        if labels.shape != ids.shape:
            message = f"row {number} has {labels.size} label for {ids.size} ids: it is a row of a "
            message += "class, which a recipe with [classifier] reads"
            raise InputError("G2-309", source.name, message)
        if not number:
            arrays = np.zeros((3, total, len(ids)), np.int32)
        if len(ids) != arrays.shape[2]:
            message = f"row {number} has {len(ids)} tokens, those before it {arrays.shape[2]}"
            raise InputError("G2-309", source.name, message)
        arrays[:, number] = ids, mask, labels
    if arrays.shape[2] < 2:
        raise InputError("G2-309", source.name, f"its rows have {arrays.shape[2]} token")
    return arrays


def _classes(source: Source) -> Ids:
    """Return ids, their count without padding, and the class, ``[rows, row_tokens + 2]``."""
    converted: list[Ids] = []
    for number, _, row in _rows(source):
        ids, mask, labels = _ids(row, number, source)
        if labels.size != 1 or "labels" not in row:
            message = f"row {number} has {labels.size} labels: one is expected, its class, as "
            message += "gpt2dsl data prepare --labels writes it"
            raise InputError("G2-309", source.name, message)
        if not mask.any():
            raise InputError("G2-309", source.name, f"row {number} has no token")
        if converted and len(ids) + 2 != len(converted[0]):
            message = f"row {number} has {len(ids)} tokens, those before it {len(converted[0]) - 2}"
            raise InputError("G2-309", source.name, message)
        converted.append(np.array([*ids, mask.sum(), labels[0]], np.int32))
    return np.stack(converted)


def _rows(source: Source) -> Iterator[tuple[int, int, Row]]:
    """Yield each row with its number and the count of all rows."""
    import mindspore.dataset as ds  # noqa: PLC0415  # slow, and only where data is read

    total, done = count(source), 0
    names = list(map(str, files(source)))
    try:
        rows = ds.MindDataset(names, shuffle=False, num_parallel_workers=1)
        for row in rows.create_dict_iterator(num_epochs=1, output_numpy=True):
            if done < total:
                yield done, total, row
            done += 1
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).splitlines()[0][:200]
        raise InputError("G2-304", source.name, f"it can't be read: {first}") from error
    if done != total or done == 0:
        message = f"{done} rows could be read, {total} are indexed"
        raise InputError("G2-304", source.name, message)


def _ids(row: Row, number: int, source: Source) -> tuple[Ids, Ids, Ids]:
    """Return ids, mask and labels of a row; labels default to the ids."""
    fields: dict[str, Ids] = {}
    for field in FIELDS:
        value = row.get(field, row.get("input_ids") if field == "labels" else None)
        if value is None and field == "attention_mask":
            value = np.ones_like(fields["input_ids"])
        if value is None or value.ndim != 1 or value.dtype.kind not in "iu":
            known = ", ".join(
                f"{name} {array.dtype} {list(array.shape)}" for name, array in row.items()
            )
            kind = "" if value is None else " that is a list of integers"
            message = f"a row has no {field}{kind}, but {known}"
            raise InputError("G2-309", source.name, message)
        if value.size and not INT32.min <= value.min() <= value.max() <= INT32.max:
            message = f"row {number}: {field} has {value.min()} to {value.max()}, which are no ids"
            raise InputError("G2-309", source.name, message)
        fields[field] = value.astype(np.int32)
    if unread := [name for name in OTHERS if name in row]:
        raise InputError("G2-309", source.name, changing(unread[0]))
    mask = fields["attention_mask"]
    if mask.shape != fields["input_ids"].shape or not np.isin(mask, (0, 1)).all():
        message = f"row {number}: attention_mask has other values than 0 and 1, or another length"
        raise InputError("G2-309", source.name, message)
    if (np.diff(mask) > 0).any():
        message = (
            f"row {number} is padded before its end (attention_mask 0 before 1), which is not "
        )
        message += "built here: pad on the right, or leave the padding out"
        raise InputError("G2-309", source.name, message)
    return fields["input_ids"], mask, fields["labels"]
