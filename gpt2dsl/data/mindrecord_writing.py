"""Writing of MindRecord files in the layout of the tools of MindFormers 0.8.0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2dsl.data.mindrecord import FIELDS
from gpt2dsl.data.rows import Ids
from gpt2dsl.data.tokens import Stream

SMALLEST_PAGE = 2**18
SMALLEST_HEADER, LARGEST_HEADER = 2**24, 2**27
LISTED = 256
"""Bytes of the header per page, with some to spare."""
AT_ONCE = 500
"""Rows per call of MindSpore's writer."""

Row = tuple[Ids, Ids, Ids]
"""Ids, mask and labels of a row."""

TEXT, CLASSES = "int32", "int64"
"""Types of integers in files of wikitext2_data_process.py and txtcls_dataset_to_mindrecord.py."""


def write(
    folder: Path, rows: Iterator[Row], shape: tuple[int, int], *, shards: int, integers: str,
    moved: Callable[[int], object] = lambda _: None,
) -> None:  # fmt: skip
    """Write rows into ``part-00000.mindrecord`` and so on; MindFormers can read each by itself.

    Args:
        folder: an existing folder, to be renamed afterwards.
        rows: ids, mask and labels of each row.
        shape: number of rows, and tokens of a row.
        shards: number of files.
        integers: ``TEXT`` or ``CLASSES``.
        moved: called with the number of rows written since its last call.
    """
    from mindspore.mindrecord import FileWriter  # noqa: PLC0415  # slow, and only where needed

    schema = {name: {"type": integers, "shape": [-1]} for name in FIELDS}
    count, row_tokens = shape
    cuts = [count * i // shards for i in range(shards + 1)]
    header, page = _sizes(-(-count // shards), row_tokens * np.dtype(integers).itemsize)
    for shard in range(shards):
        writer = FileWriter(str(folder / f"part-{shard:05d}.mindrecord"), 1)
        writer.set_header_size(header)
        writer.set_page_size(page)
        writer.add_schema(schema, "lm-schema")
        left = cuts[shard + 1] - cuts[shard]
        while left:
            batch = [next(rows) for _ in range(min(left, AT_ONCE))]
            writer.write_raw_data(
                [
                    {name: field.astype(integers) for name, field in zip(FIELDS, row, strict=True)}
                    for row in batch
                ]
            )
            left -= len(batch)
            moved(len(batch))
        writer.commit()


def _sizes(rows: int, row_bytes: int) -> tuple[int, int]:
    """Return the bytes of a file's header and of its pages.

    MindSpore builds the index of a page in memory, a kilobyte or more per row: with its default
    pages of 32 MB this would take gigabytes. The header lists all pages.
    """
    row = 3 * (row_bytes + 16)
    page = SMALLEST_PAGE
    while page < 2 * row or rows * row // page * LISTED > LARGEST_HEADER:
        page *= 2
    header = SMALLEST_HEADER
    while header < rows * row // page * LISTED:
        header *= 2
    return header, page


def cut(tokens: Stream, length: int, *, tail: bool) -> Iterator[Row]:
    """Yield consecutive blocks of a token stream, with the ids as labels.

    ``tail`` adds the incomplete block at the end, padded and masked.
    """
    full = len(tokens) // length
    rows = full + (tail and len(tokens) % length > 1)
    for start in range(0, rows, AT_ONCE):
        few = min(AT_ONCE, rows - start)
        part = _copied(tokens, start * length, (start + few) * length)
        ids, mask = np.zeros((2, few * length), np.int32)
        ids[: len(part)], mask[: len(part)] = part, 1
        blocks = ids.reshape(few, length)
        yield from zip(blocks, mask.reshape(few, length), blocks, strict=True)


def with_classes(
    ids: Sequence[Ids], classes: Sequence[int], length: int, pad: int
) -> Iterator[Row]:
    """Yield texts as rows of one length, padded on the right, with the class as label."""
    for text, number in zip(ids, classes, strict=True):
        row, mask = np.full(length, pad, np.int32), np.zeros(length, np.int32)
        row[: len(text)], mask[: len(text)] = text, 1
        yield row, mask, np.array([number], np.int32)


def _copied(tokens: Stream, first: int, last: int) -> Stream:
    """Return tokens, read from a stream's file if any: mapped pages would stay resident."""
    dtype: np.dtype[np.integer[Any]] = tokens.dtype
    if not isinstance(tokens, np.memmap) or tokens.filename is None:
        return tokens[first:last]
    place = tokens.offset + first * dtype.itemsize
    count = min(last, len(tokens)) - first
    with Path(tokens.filename).open("rb") as file:
        file.seek(place)
        return np.frombuffer(file.read(count * dtype.itemsize), dtype)
