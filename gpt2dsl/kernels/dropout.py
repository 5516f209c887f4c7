"""Dropout with a mask that is given."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn


class Dropout(nn.Cell):
    """``y = x mask / keep``.

    Why: the stock dropout draws its own mask, which is not a function of a seed: a second call
    gives another one and a new process the first again, so that no resume could be exact.

    Args:
        keep: the exact probability with which the mask was drawn.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.scale = 1.0 / keep
        self.cast = P.Cast()

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Both of one shape; the mask is boolean."""
        return x * (self.cast(mask, ms.float32) * self.scale)

    def bprop(self, x: Tensor, mask: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same mask on the gradient."""
        return dout * (self.cast(mask, ms.float32) * self.scale), mask
