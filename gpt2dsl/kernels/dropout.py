"""Dropout with a mask passed as an argument."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn


class Dropout(nn.Cell):
    """Dropout with a given mask: ``y = x mask / keep``.

    Why: the stock dropout draws its own mask from hidden state, not from (seed, step): a second
    call gives another mask and a new process the first one again, so no resume could be exact.

    Args:
        keep: the exact keep probability with which the mask was drawn.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.scale = 1.0 / keep
        self.cast = P.Cast()

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Apply a boolean mask of the shape of ``x``."""
        return x * (self.cast(mask, ms.float32) * self.scale)

    def bprop(self, x: Tensor, mask: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the same mask to the gradient."""
        return dout * (self.cast(mask, ms.float32) * self.scale), mask
