"""Labelled texts as rows of ids that are padded on the right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2dsl.data.classes import Labels
from gpt2dsl.data.source import Source
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.errors import InputError

Ids = NDArray[np.int32]

BUCKET = 64
"""Multiple to which lengths of padded rows are rounded up, below ``seq_length``."""

ENCODED = 1024
"""Texts per call of the encoder."""


class Examples:
    """Rows of ids, each with its class, or with the target of a regression.

    Args:
        ids: ids of each text, truncated to ``seq_length``.
        classes: class of each text; floats are targets of a regression.
        seq_length: most tokens of a padded row.
        skipped: as in ``padded``.
    """

    def __init__(
        self,
        ids: Sequence[Ids],
        classes: Sequence[float],
        seq_length: int,
        pad: int,
        name: str,
        *,
        skipped: int | None = None,
    ) -> None:
        self.ids = ids
        is_regression = any(isinstance(label, float) for label in classes)
        self.classes = np.array(classes, np.float32 if is_regression else np.int32)
        # Just long enough for the longest row: the graph is compiled for one length only.
        longest = max(map(len, ids), default=1)
        self.length = min(seq_length, -(-longest // BUCKET) * BUCKET)
        self.pad, self.skipped = pad, skipped
        self.name = name

    @classmethod
    def read(
        cls,
        source: Source,
        tokenizer: Tokenizer,
        classes: Labels,
        seq_length: int,
        skipped: int | None = None,
    ) -> Examples:
        """Return the rows of a source.

        Raises:
            SpecError: rows are unusable, or have unknown classes (G2-309).
            InputError: the source has no row (G2-302).
        """
        ids: list[Ids] = []
        numbers: list[float] = []
        rows = source.rows(number=classes.number)
        while batch := list(itertools.islice(rows, ENCODED)):
            ids += encoded([row.text for row in batch], tokenizer, seq_length)
            numbers += [classes.number(row.label) for row in batch]
        if not ids:
            raise source.without_rows()
        return cls(ids, numbers, seq_length, tokenizer.filler, source.name, skipped=skipped)

    @classmethod
    def of_rows(cls, ids: Ids, sizes: Ids, classes: Ids, seq_length: int, name: str) -> Examples:
        """Return the examples of padded rows; ``sizes`` are their lengths without padding."""
        rows = [row[: min(size, seq_length)] for row, size in zip(ids, sizes, strict=True)]
        return cls(rows, [int(i) for i in classes], seq_length, 0, name)

    def require_ids(self, vocab: int, classes: int) -> None:
        """Refuse ids beyond the rows of wte (G2-205), and unknown classes (G2-309)."""
        for number, (ids, label) in enumerate(zip(self.ids, self.classes, strict=True)):
            if not 0 <= label < classes:
                message = f"row {number} is of class {label}; {classes} are counted from 0"
                raise InputError("G2-309", self.name, message)
            if ids.min() < 0 or ids.max() >= vocab:
                message = (
                    f"row {number} has the ids {ids.min()} to {ids.max()}; the word table has "
                )
                raise InputError("G2-205", self.name, f"{message}{vocab} rows")

    def weight(self, indices: ArrayLike) -> float:  # noqa: ARG002  # each has a class
        """Return 1: every row of a batch counts."""
        return 1.0

    def __len__(self) -> int:
        return len(self.ids)

    def require(self, batch_size: int) -> None:
        """Refuse data that does not fill one training batch (G2-305)."""
        if len(self) < batch_size:
            message = f"it has {len(self)} rows; a batch needs {batch_size}"
            raise InputError("G2-305", self.name, message)

    def batch(self, indices: ArrayLike) -> tuple[Ids, NDArray[Any]]:
        """Return padded rows ``[rows, length]``, and label and last position ``[rows, 2]``."""
        chosen = np.asarray(indices)
        ids, last = padded([self.ids[i] for i in chosen], self.length, self.pad, self.skipped)
        labels = self.classes[chosen]
        return ids, np.stack([labels, last.astype(labels.dtype)], 1)

    def batches(self, batch_size: int) -> Iterator[tuple[Ids, Ids, NDArray[Any]]]:
        """Yield all rows in order: padded ids, positions of the last tokens, labels.

        Every batch has the full size, with rows of padding; its labels are those of real rows.
        """
        for start in range(0, len(self), batch_size):
            rows = list(self.ids[start : start + batch_size])
            filler: Any = [np.array([self.pad], np.int32)] * (batch_size - len(rows))
            ids, last = padded([*rows, *filler], self.length, self.pad, self.skipped)
            yield ids, last, self.classes[start : start + batch_size]


def encoded(texts: list[str], tokenizer: Tokenizer, seq_length: int) -> list[Ids]:
    """Return up to ``seq_length`` ids of each text; an empty text becomes the start token."""
    return [
        np.array(ids or [tokenizer.start], np.int32)
        for ids in tokenizer.encode_cut(texts, seq_length)
    ]


def padded(
    rows: Sequence[Ids], length: int, pad: int, skipped: int | None = None
) -> tuple[Ids, Ids]:
    """Return padded rows ``[rows, length]``, and the position of the classified token ``[rows]``.

    Args:
        rows: ids of each row, at least one.
        length: length of the padded rows.
        pad: id that pads rows; padding has no effect on results.
        skipped: id that is never classified, as ``pad_token_id`` in transformers: the position is
            that of the last other token, or 0 without one; None for the last token, whatever it
            is.
    """
    ids = np.full((len(rows), length), pad, np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, np.array([_read_at(row, skipped) for row in rows], np.int32)


def _read_at(row: Ids, skipped: int | None) -> int:
    if skipped is None:
        return len(row) - 1
    others = np.flatnonzero(row != skipped)
    return int(others[-1]) if len(others) else 0
