"""Matrix product with a bias."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn


class Linear(nn.Cell):
    """``y = x w + b``, with the weight as ``[in, out]``, as Hugging Face's Conv1D has it.

    Why: ``ops.matmul`` of 3-D by 2-D broadcasts the weight, and its gradient transposes; the stock
    gradient of a bias (BiasAddGrad) takes 18 times as long as a product with ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.product = P.MatMul()
        self.product_bt = P.MatMul(transpose_b=True)
        self.product_at = P.MatMul(transpose_a=True)
        self.add_bias = P.BiasAdd()
        self.ones = P.Ones()

    def construct(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """``[rows, in] x [in, out] + [out] → [rows, out]``."""
        return self.add_bias(self.product(x, w), b)

    def bprop(
        self, x: Tensor, w: Tensor, b: Tensor, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``dx = dy wᵀ, dw = xᵀ dy, db = 1ᵀ dy``."""
        rows = self.ones((1, x.shape[0]), ms.float32)
        db = self.product(rows, dout)  # [1, out]
        return self.product_bt(dout, w), self.product_at(x, dout), db.reshape(b.shape)
