"""What texts are generated with: a network that has taken in what they say so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Decoder(Protocol):
    """Decodes the rows of a batch, each at its own position."""

    def reserve(self, tokens: int) -> None:
        """Start anew, for rows of so many tokens; what rows held is gone."""

    def prefill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Take in prompts as these rows; ``[prompts, entries]`` of the token after each."""

    def step(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Take in one token a row, ``[rows]``; ``[rows, entries]`` of the token after it."""

    def release(self, row: int) -> None:
        """A row that is done with."""

    def clear(self, row: int) -> None:
        """Release a row, and forget what it held: what is no number would reach later ones."""

    def reorder(self, source: NDArray[np.int64]) -> None:
        """Give each row what the row ``source[row]`` holds."""
