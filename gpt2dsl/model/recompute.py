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
    """A block that keeps its inputs only."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell
        self.gradients = GradOperation(get_all=True, sens_param=True)
        self.depend = P.Depend()

    def construct(self, x: Tensor, mask: Tensor, weights: Tensors, kept: Tensors) -> Tensor:
        """As the block's."""
        return self.cell(x, mask, weights, kept)

    def bprop(
        self, x: Tensor, mask: Tensor, weights: Tensors, kept: Tensors, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, Tensor, Tensors, Tensors]:
        """Of all inputs, from a second run."""
        x = self.depend(x, dout)
        found = self.gradients(self.cell)(x, mask, weights, kept, dout)
        return found if kept else (*found, ())  # MindSpore leaves out what is empty


class RecomputedAttention(nn.Cell):
    """The core of an attention that keeps queries, keys and values only."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell
        self.gradients = GradOperation(get_all=True, sens_param=True)
        self.depend = P.Depend()

    def construct(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, kept: Tensors) -> Tensor:
        """As the core's."""
        return self.cell(q, k, v, mask, kept)

    def bprop(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, kept: Tensors, out: Tensor,
        dout: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensors]:  # fmt: skip
        """Of all inputs, from a second run."""
        q = self.depend(q, dout)
        found = self.gradients(self.cell)(q, k, v, mask, kept, dout)
        return found if kept else (*found, ())


def recomputing(block: nn.Cell, recompute: str) -> nn.Cell:
    """The block, computed again as a whole where ``recompute`` is full."""
    return Recomputed(block) if recompute == "full" else block


def recomputing_attention(core: nn.Cell, recompute: str) -> nn.Cell:
    """The core, computed again where ``recompute`` is selective."""
    return RecomputedAttention(core) if recompute == "selective" else core
