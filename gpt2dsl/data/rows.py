"""Rows of a token stream, each of which predicts every token after its first.

A row has ``seq_length + 1`` tokens, and its last token is the next row's first, so that every
token of the stream except the first is predicted exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2dsl.errors import InputError

Ids = NDArray[np.int32]
Mask = NDArray[np.float32]

LEFT_OUT = -100
"""Label of a token that is not predicted, as in transformers."""


class Rows:
    """Rows of a token stream, each of which predicts ``seq_length`` tokens.

    Training reads full rows and drops the incomplete one at the end; evaluation reads all.
    """

    def __init__(
        self, tokens: NDArray[np.integer[Any]], seq_length: int, name: str = "data"
    ) -> None:
        self.tokens = tokens
        self.seq_length = seq_length
        self.name = name

    @property
    def length(self) -> int:
        """Number of input tokens of a row."""
        return self.seq_length

    def __len__(self) -> int:
        """Return the number of full rows."""
        return count(len(self.tokens), self.seq_length)

    def require(self, batch_size: int) -> None:
        """Refuse data that does not fill one training batch (G2-305)."""
        need(len(self.tokens), self.seq_length, batch_size, self.name)

    def batch(self, indices: ArrayLike) -> tuple[Ids, Ids]:
        """Return inputs and labels of full rows, both ``[rows, seq_length]``."""
        starts = np.asarray(indices, dtype=np.int64) * self.seq_length
        row = self.tokens[starts[:, None] + np.arange(self.seq_length + 1)].astype(np.int32)
        return np.ascontiguousarray(row[:, :-1]), np.ascontiguousarray(row[:, 1:])

    def weight(self, indices: ArrayLike) -> float:  # noqa: ARG002  # every token is predicted
        """Return the ratio of all tokens of a batch to those that are predicted."""
        return 1.0

    def evaluation_count(self, batch_size: int) -> int:
        """Return the number of batches of an evaluation."""
        return max(1, -(-(len(self.tokens) - 1) // (self.seq_length * batch_size)))

    def evaluation_batches(self, batch_size: int) -> Iterator[tuple[Ids, Ids, Mask]]:
        """Yield inputs, labels and mask of all rows in order, in batches of full size.

        The mask is 1 where a label is a token of the stream, 0 where it is padding.
        """
        if len(self.tokens) < 2:
            raise InputError(
                "G2-305",
                self.name,
                f"it has {_tokens(len(self.tokens))}; evaluation needs 2 at least",
            )
        return self._evaluation_batches(batch_size)

    def _evaluation_batches(self, batch_size: int) -> Iterator[tuple[Ids, Ids, Mask]]:
        length = self.seq_length
        for start in range(0, len(self.tokens) - 1, batch_size * length):
            part = self.tokens[start : start + batch_size * length + 1].astype(np.int32)
            batch = np.zeros((3, batch_size * length), np.int32)
            predicted = len(part) - 1
            batch[:, :predicted] = part[:-1], part[1:], np.ones(predicted, np.int32)
            ids, labels, mask = batch.reshape(3, batch_size, length)
            yield ids, labels, mask.astype(np.float32)


def count(tokens: int, seq_length: int) -> int:
    """Return the number of full rows in a stream of ``tokens`` tokens."""
    return max(0, (tokens - 1) // seq_length)


def need(tokens: int, seq_length: int, batch_size: int, name: str = "data") -> None:
    """Refuse data that does not fill one training batch, over all ranks (G2-305)."""
    needed = batch_size * seq_length + 1
    if tokens < needed:
        raise InputError(
            "G2-305",
            name,
            f"it has {_tokens(tokens)}; a batch of {batch_size} x {seq_length} needs {needed:,}",
        )


def _tokens(number: int) -> str:
    return f"{number:,} token" if number == 1 else f"{number:,} tokens"
