"""Texts with their classes, as rows of ids that are padded on the right."""

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
"""Lengths of padded rows are multiples of this, or ``seq_length``."""

ENCODED = 1024
"""Texts that are encoded together."""


class Examples:
    """Rows of ids, each with its class, or with the number that a regression is to predict.

    Args:
        ids: of each text, cut to ``seq_length``.
        classes: of each text; numbers that are not whole are those of a regression.
        seq_length: tokens of a padded row at most.
        pad: the id that fills it up.
        name: of the data, for messages.
        skipped: as ``padded`` has it.
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
        # No longer than the longest needs: what is compiled is one length for all batches.
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

        Args:
            source: the texts with their labels.
            tokenizer: of the network.
            classes: what reads labels.
            seq_length: tokens of a row at most.
            skipped: as ``padded`` has it.

        Raises:
            SpecError: rows can't be used, or name no class of these (G2-309).
            InputError: there is no row (G2-302).
        """
        ids: list[Ids] = []
        numbers: list[float] = []
        rows = source.rows(number=classes.number)
        while batch := list(itertools.islice(rows, ENCODED)):
            ids += encoded([row.text for row in batch], tokenizer, seq_length)
            numbers += [classes.number(row.label) for row in batch]
        if not ids:
            raise InputError("G2-302", source.name, "there is no row in it")
        return cls(ids, numbers, seq_length, tokenizer.filler, source.name, skipped=skipped)

    @classmethod
    def of_rows(cls, ids: Ids, sizes: Ids, classes: Ids, seq_length: int, name: str) -> Examples:
        """Return the examples of rows that are already padded on the right.

        Args:
            ids: ``[rows, row_tokens]``.
            sizes: how many of them are real, ``[rows]``.
            classes: ``[rows]``.
            seq_length: as above.
            name: of the data.
        """
        rows = [row[: min(size, seq_length)] for row, size in zip(ids, sizes, strict=True)]
        return cls(rows, [int(i) for i in classes], seq_length, 0, name)

    def require_ids(self, vocab: int, classes: int) -> None:
        """Refuse ids that the word table has no row for (G2-205), and other classes (G2-309)."""
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
        """Return padded rows ``[rows, length]``, and label and last token's place ``[rows, 2]``."""
        chosen = np.asarray(indices)
        ids, last = padded([self.ids[i] for i in chosen], self.length, self.pad, self.skipped)
        labels = self.classes[chosen]
        return ids, np.stack([labels, last.astype(labels.dtype)], 1)

    def batches(self, batch_size: int) -> Iterator[tuple[Ids, Ids, NDArray[Any]]]:
        """Yield all rows in order: padded ids, places of the last tokens, labels.

        Every batch but for its classes has the full size; what is too much is padding.
        """
        for start in range(0, len(self), batch_size):
            rows = list(self.ids[start : start + batch_size])
            filler: Any = [np.array([self.pad], np.int32)] * (batch_size - len(rows))
            ids, last = padded([*rows, *filler], self.length, self.pad, self.skipped)
            yield ids, last, self.classes[start : start + batch_size]


def encoded(texts: list[str], tokenizer: Tokenizer, seq_length: int) -> list[Ids]:
    """Return up to ``seq_length`` ids of each text; an empty text is the token that begins one."""
    return [
        np.array(ids or [tokenizer.start], np.int32)
        for ids in tokenizer.encode_cut(texts, seq_length)
    ]


def padded(
    rows: Sequence[Ids], length: int, pad: int, skipped: int | None = None
) -> tuple[Ids, Ids]:
    """Return rows of one length ``[rows, length]``, and where each is read ``[rows]``.

    Args:
        rows: ids, at least one in each.
        length: of the padded rows.
        pad: the id that fills them up; what stands there changes nothing.
        skipped: the id that no row is read at, as transformers has it for ``pad_token_id``: a row
            is read at its last other token, one that has none at its first; None for the last
            token whatever it is.
    """
    found = np.full((len(rows), length), pad, np.int32)
    for i, row in enumerate(rows):
        found[i, : len(row)] = row
    return found, np.array([_read_at(row, skipped) for row in rows], np.int32)


def _read_at(row: Ids, skipped: int | None) -> int:
    """Return the place at which a row is read."""
    if skipped is None:
        return len(row) - 1
    others = np.flatnonzero(row != skipped)
    return int(others[-1]) if len(others) else 0
