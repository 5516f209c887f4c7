"""Softmax over attention scores."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.kernels.reuse_activation import SavedValue


class Softmax(nn.Cell):
    """Softmax ``p = exp(s) / sum(exp(s))`` over the last axis.

    Why: the stock gradient reduces and broadcasts in four dimensions, which takes three times as
    long as in two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.softmax = P.Softmax(-1)
        self.product = P.MatMul()
        self.ones = P.Ones()

    def construct(self, scores: Tensor, saved: SavedValue) -> Tensor:
        """Return saved probabilities or compute them: ``[batch * heads, time, time]`` or any."""
        return saved[0] if saved else self.softmax(scores)

    def bprop(
        self, scores: Tensor, saved: SavedValue, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, SavedValue]:
        """``ds = p (dp - sum(p dp))``."""
        width = scores.shape[-1]
        p = out.reshape((-1, width))
        dp = dout.reshape((-1, width))
        along = self.ones((width, 1), ms.float32)
        total = self.product(p * dp, along)  # [rows, 1]
        across = self.ones((1, width), ms.float32)
        ds = (p * (dp - self.product(total, across))).reshape(scores.shape)
        return ds, saved
