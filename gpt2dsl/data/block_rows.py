"""Rows of text of one length, whose labels decide which tokens are predicted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2dsl.data.rows import LEFT_OUT, Ids, Mask, Rows
from gpt2dsl.errors import InputError

LOOKED_AT = 4096
"""Rows that are checked at once."""


class BlockRows(Rows):
    """Rows that predict each token after the first, unless its label is -100.

    Args:
        blocks: ids, ``[rows, row_tokens]``.
        mask: 1 for tokens, 0 for padding at the end of a row; of the same shape.
        labels: tokens to predict, of the same shape; -100 for none.

    Attributes:
        width: length to which rows of an evaluation are padded.
    """

    def __init__(self, blocks: Ids, mask: Ids, labels: Ids, name: str) -> None:
        super().__init__(blocks.reshape(-1), blocks.shape[1] - 1, name)
        self.blocks, self.mask, self._labels = blocks, mask, labels
        self.width = self.seq_length

    def __len__(self) -> int:
        return len(self.blocks)

    def require(self, batch_size: int) -> None:
        """Refuse data that does not fill one training batch (G2-305)."""
        if len(self) < batch_size:
            message = f"it has {len(self)} rows; a batch needs {batch_size}"
            raise InputError("G2-305", self.name, message)

    def require_ids(self, vocab: int) -> None:
        """Refuse ids and labels beyond the rows of wte.

        Raises:
            InputError: one is too large (G2-205) or negative, or no token is predicted (G2-309).
        """
        count = 0
        for start in range(0, len(self), LOOKED_AT):
            part = slice(start, start + LOOKED_AT)
            ids, labels = self.blocks[part], self._labels[part]
            real = self.mask[part] == 1
            predicted = real & (labels != LEFT_OUT)
            count += int(predicted[:, 1:].sum())
            values = np.concatenate([ids[real], labels[predicted]])
            if (largest := values.max(initial=0)) >= vocab:
                message = f"it has the id {largest}; the word table has {vocab} rows"
                raise InputError("G2-205", self.name, message)
            if (smallest := values.min(initial=0)) < 0:
                message = f"it has the id {smallest}; only labels may be negative, {LEFT_OUT}"
                raise InputError("G2-309", self.name, message)
        if not count:
            raise InputError("G2-309", self.name, "its labels keep no token to predict")

    def batch(self, indices: ArrayLike) -> tuple[Ids, Ids]:
        """Return inputs and labels, both ``[rows, seq_length]``; -100 is not predicted."""
        chosen = np.asarray(indices)
        ids = np.where(self.mask[chosen] == 1, self.blocks[chosen], 0).astype(np.int32)
        return np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(self._targets(chosen))

    def weight(self, indices: ArrayLike) -> float:
        """Return the ratio of all tokens of a batch to those that are predicted."""
        targets = self._targets(np.asarray(indices))
        predicted = int((targets != LEFT_OUT).sum())
        return targets.size / predicted if predicted else 0.0

    def _targets(self, rows: NDArray[np.integer[Any]]) -> Ids:
        """Return the label of each token but the last, ``[rows, seq_length]``."""
        real = self.mask[rows] == 1
        return np.where(real, self._labels[rows], LEFT_OUT)[:, 1:].astype(np.int32)

    def evaluation_count(self, batch_size: int) -> int:
        """Return the number of batches of an evaluation."""
        return -(-len(self) // batch_size)

    def evaluation_batches(self, batch_size: int) -> Iterator[tuple[Ids, Ids, Mask]]:
        """Yield inputs, labels and mask of all rows, in batches of full size."""
        for start in range(0, len(self), batch_size):
            chosen = np.arange(start, min(len(self), start + batch_size))
            ids, targets = self.batch(chosen)
            shape = (batch_size, self.width)
            inputs, labels = np.zeros((2, *shape), np.int32)
            mask = np.zeros(shape, np.float32)
            inside = slice(len(chosen)), slice(self.seq_length)
            predicted = targets != LEFT_OUT
            inputs[inside], labels[inside], mask[inside] = (
                ids,
                np.where(predicted, targets, 0),
                predicted,
            )
            yield inputs, labels, mask
