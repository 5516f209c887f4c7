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
    """Rows of ids with a class each, or with the number that a regression is to give.

    Args:
        ids: of each text, cut to ``seq_length``.
        classes: of each text; numbers that are not whole are those of a regression.
        seq_length: tokens of a padded row at most.
        pad: the id that fills it up.
        name: of the data, for messages.
    """

    def __init__(
        self, ids: Sequence[Ids], classes: Sequence[float], seq_length: int, pad: int, name: str
    ) -> None:
        self.ids = ids
        is_regression = any(isinstance(label, float) for label in classes)
        self.classes = np.array(classes, np.float32 if is_regression else np.int32)
        # No longer than the longest needs: what is compiled is one length for all batches.
        longest = max(map(len, ids), default=1)
        self.length = min(seq_length, -(-longest // BUCKET) * BUCKET)
        self.pad = pad
        self.name = name

    @classmethod
    def read(
        cls, source: Source, tokenizer: Tokenizer, classes: Labels, seq_length: int
    ) -> Examples:
        """The rows of a source.

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
        return cls(ids, numbers, seq_length, tokenizer.filler, source.name)

    def __len__(self) -> int:
        return len(self.ids)

    def require(self, batch_size: int) -> None:
        """Refuses data that does not fill one training batch (G2-305)."""
        if len(self) < batch_size:
            message = f"it has {len(self)} rows; a batch needs {batch_size}"
            raise InputError("G2-305", self.name, message)

    def batch(self, indices: ArrayLike) -> tuple[Ids, NDArray[Any]]:
        """Padded rows ``[rows, length]``; label and place of the last token ``[rows, 2]``."""
        chosen = np.asarray(indices)
        ids, last = padded([self.ids[i] for i in chosen], self.length, self.pad)
        labels = self.classes[chosen]
        return ids, np.stack([labels, last.astype(labels.dtype)], 1)

    def batches(self, batch_size: int) -> Iterator[tuple[Ids, Ids, NDArray[Any]]]:
        """All rows in order: padded ids, places of the last tokens, labels.

        Every batch but for its classes has the full size; what is too much is padding.
        """
        for start in range(0, len(self), batch_size):
            rows = list(self.ids[start : start + batch_size])
            filler: Any = [np.array([self.pad], np.int32)] * (batch_size - len(rows))
            ids, last = padded([*rows, *filler], self.length, self.pad)
            yield ids, last, self.classes[start : start + batch_size]


def encoded(texts: list[str], tokenizer: Tokenizer, seq_length: int) -> list[Ids]:
    """At most ``seq_length`` ids of each text; of an empty one the token that texts begin with."""
    return [
        np.array(ids or [tokenizer.start], np.int32)
        for ids in tokenizer.encode_cut(texts, seq_length)
    ]


def padded(rows: Sequence[Ids], length: int, pad: int) -> tuple[Ids, Ids]:
    """Rows of one length ``[rows, length]``, and the places of their last tokens ``[rows]``."""
    found = np.full((len(rows), length), pad, np.int32)
    for i, row in enumerate(rows):
        found[i, : len(row)] = row
    return found, np.array([len(row) - 1 for row in rows], np.int32)
