"""MindRecord, MindSpore's own file of rows: what MindFormers trains on.

A row has ``input_ids``, ``attention_mask`` and ``labels``, int32, as MindFormers 0.8.0's
wikitext2_data_process.py writes them; beside each file lies an index, which is an SQLite database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.data import atomic, cache
from gpt2dsl.data.rows import Ids, Mask, Rows
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokens import Stream
from gpt2dsl.errors import InputError, RunError

FIELDS = ("input_ids", "attention_mask", "labels")
SMALLEST_PAGE = 2**18
SMALLEST_HEADER, LARGEST_HEADER = 2**24, 2**27
LISTED = 256
"""Bytes that the header has for each page, and some to spare."""
AT_ONCE = 500
"""Rows that are handed to MindSpore together."""


class BlockRows(Rows):
    """Rows that were cut before: each predicts every token after its own first.

    Args:
        blocks: ids, ``[rows, row_tokens]``.
        mask: 1 where a token is real, of the same shape.
        name: of the data, for messages.
    """

    def __init__(self, blocks: Ids, mask: NDArray[np.bool_], name: str) -> None:
        super().__init__(blocks.reshape(-1), blocks.shape[1] - 1, name)
        self.blocks, self.mask = blocks, mask

    def __len__(self) -> int:
        return len(self.blocks)

    def require(self, batch_size: int) -> None:
        """Refuses what training can't use: too few rows (G2-305), or padded ones (G2-309)."""
        if len(self) < batch_size:
            message = f"it has {len(self)} rows; a batch needs {batch_size}"
            raise InputError("G2-305", self.name, message)
        if not self.mask.all():
            row = int((~self.mask).any(1).argmax())
            message = f"row {row} is padded; training takes rows that are full"
            raise InputError("G2-309", self.name, message)

    def batch(self, indices: object) -> tuple[Ids, Ids]:
        """Inputs and labels of rows, both ``[rows, seq_length]``."""
        row = np.asarray(self.blocks[np.asarray(indices)], np.int32)
        return np.ascontiguousarray(row[:, :-1]), np.ascontiguousarray(row[:, 1:])

    def evaluation_count(self, batch_size: int) -> int:
        """Batches of an evaluation."""
        return -(-len(self) // batch_size)

    def evaluation_batches(self, batch_size: int) -> Iterator[tuple[Ids, Ids, Mask]]:
        """Inputs, labels and mask of all rows, every batch of full size."""
        for start in range(0, len(self), batch_size):
            rows = np.zeros((batch_size, self.seq_length + 1), np.int32)
            mask = np.zeros(rows.shape, np.float32)
            part = self.blocks[start : start + batch_size]
            rows[: len(part)] = part
            mask[: len(part)] = self.mask[start : start + batch_size]
            yield rows[:, :-1].copy(), rows[:, 1:].copy(), mask[:, 1:].copy()


def files(source: Source) -> list[Path]:
    """The files of rows of a source, without their indexes."""
    return [file.path for file in source.files]


def count(source: Source) -> int:
    """Rows of a source, as its indexes have them; MindSpore is not imported.

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
    """The rows of a source; they are kept in the cache, where later runs map them.

    Raises:
        InputError: a file is damaged (G2-304), or rows differ in length or lack ids (G2-309).
    """
    path = cache.folder("records") / f"{source.digest()[:32]}.npy"
    if not path.exists():
        rows = _read(source)
        try:
            atomic.write_file(path, lambda file: np.save(file, rows))
        except OSError as error:
            message = f"{path}: the cache can't be written: {error.strerror or error}"
            raise RunError(message) from error
    whole = np.load(path, mmap_mode="r")  # [2, rows, row_tokens]
    return BlockRows(whole[0], whole[1].astype(bool), source.name)


def _read(source: Source) -> Ids:
    """Ids and masks, ``[2, rows, row_tokens]``."""
    import mindspore.dataset as ds  # noqa: PLC0415  # slow, and only where data is read

    total, found, done = count(source), np.zeros((2, 0, 0), np.int32), 0
    names = list(map(str, files(source)))
    try:
        rows = ds.MindDataset(names, shuffle=False, num_parallel_workers=1)
        for row in rows.create_dict_iterator(num_epochs=1, output_numpy=True):
            ids = _of(row, "input_ids", source)
            if "labels" in row and row["labels"].shape != ids.shape:
                message = f"row {done} has {row['labels'].size} label: rows of classes are not read"
                raise InputError("G2-309", source.name, message)
            if not done:
                found = np.zeros((2, total, len(ids)), np.int32)
            if len(ids) != found.shape[2] or done == total:
                message = f"row {done} has {len(ids)} tokens, those before it {found.shape[2]}"
                raise InputError("G2-309", source.name, message)
            found[0, done] = ids
            found[1, done] = row.get("attention_mask", np.ones_like(ids))
            done += 1
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).splitlines()[0][:200]
        raise InputError("G2-304", source.name, f"it can't be read: {first}") from error
    if done != total or done == 0 or found.shape[2] < 2:
        message = f"{done} rows of {found.shape[2]} tokens could be read, {total} are indexed"
        raise InputError("G2-304", source.name, message)
    return found


def _of(row: dict[str, NDArray[np.int32]], field: str, source: Source) -> NDArray[np.int32]:
    if field not in row or row[field].ndim != 1:
        known = ", ".join(row)
        message = f"a row has no {field}, but {known}; texts with classes are not read so"
        raise InputError("G2-309", source.name, message)
    return row[field]


def write(
    folder: Path, blocks: Iterator[tuple[Ids, Ids]], shape: tuple[int, int], shards: int,
    moved: Callable[[int], object] = lambda _: None,
) -> None:  # fmt: skip
    """Writes rows into ``part-00000.mindrecord`` and so on: MindFormers takes each for itself.

    Args:
        folder: is there, and is written under a name that is not final.
        blocks: ids and mask of each row.
        shape: rows, and tokens of a row.
        shards: files.
        moved: is told the rows that were written since it was told last.
    """
    from mindspore.mindrecord import FileWriter  # noqa: PLC0415  # slow, and only where needed

    schema = {name: {"type": "int32", "shape": [-1]} for name in FIELDS}
    rows, row_tokens = shape
    cuts = [rows * i // shards for i in range(shards + 1)]
    header, page = _sizes(-(-rows // shards), row_tokens)
    for shard in range(shards):
        writer = FileWriter(str(folder / f"part-{shard:05d}.mindrecord"), 1)
        writer.set_header_size(header)
        writer.set_page_size(page)
        writer.add_schema(schema, "lm-schema")
        left = cuts[shard + 1] - cuts[shard]
        while left:
            batch = [next(blocks) for _ in range(min(left, AT_ONCE))]
            writer.write_raw_data(
                [{"input_ids": ids, "attention_mask": mask, "labels": ids} for ids, mask in batch]
            )
            left -= len(batch)
            moved(len(batch))
        writer.commit()


def _sizes(rows: int, row_tokens: int) -> tuple[int, int]:
    """Bytes of a file's header and of its pages.

    MindSpore makes the index of a page in memory, a kilobyte or more for each row: pages of its
    own 32 MB would take gigabytes. The header lists all pages.
    """
    row = 3 * (4 * row_tokens + 16)
    page = SMALLEST_PAGE
    while page < 2 * row or rows * row // page * LISTED > LARGEST_HEADER:
        page *= 2
    header = SMALLEST_HEADER
    while header < rows * row // page * LISTED:
        header *= 2
    return header, page


def cut(tokens: Stream, length: int, *, tail: bool) -> Iterator[tuple[Ids, Ids]]:
    """Consecutive blocks of a token stream with their masks.

    Args:
        tokens: the stream.
        length: tokens of a block.
        tail: whether the incomplete block at the end is one too, padded and masked.
    """
    whole = len(tokens) // length
    rows = whole + (tail and len(tokens) % length > 1)
    for start in range(0, rows, AT_ONCE):
        few = min(AT_ONCE, rows - start)
        part = _copied(tokens, start * length, (start + few) * length)
        ids, mask = np.zeros((2, few * length), np.int32)
        ids[: len(part)], mask[: len(part)] = part, 1
        yield from zip(ids.reshape(few, length), mask.reshape(few, length), strict=True)


def _copied(tokens: Stream, first: int, last: int) -> Stream:
    """Tokens of a stream, read from its file where it has one: what is mapped stays resident."""
    dtype: np.dtype[np.integer[Any]] = tokens.dtype
    if not isinstance(tokens, np.memmap) or tokens.filename is None:
        return tokens[first:last]
    place = tokens.offset + first * dtype.itemsize
    count = min(last, len(tokens)) - first
    with Path(tokens.filename).open("rb") as file:
        file.seek(place)
        return np.frombuffer(file.read(count * dtype.itemsize), dtype)
