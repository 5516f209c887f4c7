"""Activations that the backward pass computes again instead of keeping them (Chen et al. 2016).

MindSpore's own ``Cell.recompute`` does not see uses within a hand-written gradient, and keeps what
they need; here the gradient runs the cell again itself. That its input depends on the gradient
that comes in keeps the second run from being merged with the first.
"""

from __future__ import annotations

import mindspore.ops.operations as P
from mindspore import Tensor, nn
from mindspore.ops import GradOperation

Tensors = tuple[Tensor, ...]


class Recomputed(nn.Cell):
    """A cell that keeps its inputs only: a block, or the core of an attention."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell
        self.gradients = GradOperation(get_all=True, sens_param=True)
        self.depend = P.Depend()

    def construct(self, x: Tensor, mask: Tensor, more: Tensors, kept: Tensors) -> Tensor:
        """As the cell's; ``more``: what else it has a gradient for."""
        return self.cell(x, mask, more, kept)

    def bprop(
        self, x: Tensor, mask: Tensor, more: Tensors, kept: Tensors, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, Tensor, Tensors, Tensors]:
        """Of all inputs, from a second run."""
        x = self.depend(x, dout)
        found = self.gradients(self.cell)(x, mask, more, kept, dout)
        return found if kept else (*found, ())  # MindSpore leaves out what is empty
