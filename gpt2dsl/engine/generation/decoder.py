"""The protocol of incremental decoders: networks with a KV cache for each row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Decoder(Protocol):
    """An incremental decoder of a batch of rows, each at its own position."""

    def reserve(self, tokens: int) -> None:
        """Discard all rows and make room for rows of up to ``tokens`` tokens."""

    def prefill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Prefill prompts into these rows; return next-token logits ``[prompts, vocab]``."""

    def step(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Append a token to each row, ids ``[rows]``; return next logits ``[rows, vocab]``."""

    def release(self, row: int) -> None:
        """Release a finished row."""

    def clear(self, row: int) -> None:
        """Release a row and erase its cache: NaN in it would reach later rows."""

    def reorder(self, source: NDArray[np.int64]) -> None:
        """Copy to each row the contents of row ``source[row]``."""
