"""Matrix product and bias of a linear."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.kernels.mixed_precision import MixedPrecision
from gpt2dsl.layout.precision import FLOAT32, PrecisionPolicy


class MatMul(nn.Cell):
    """Matrix product ``y = x w`` with a weight ``[in, out]``, as in Hugging Face's Conv1D.

    Why: ``ops.matmul`` of 3-D by 2-D broadcasts the weight, and its gradient transposes.
    """

    def __init__(self, precision: PrecisionPolicy = FLOAT32) -> None:
        super().__init__()
        self.precision = MixedPrecision(precision)
        self.product = P.MatMul()
        self.product_bt = P.MatMul(transpose_b=True)
        self.product_at = P.MatMul(transpose_a=True)

    def construct(self, x: Tensor, w: Tensor) -> Tensor:
        """``[rows, in] x [in, out] → [rows, out]``."""
        precision = self.precision
        return precision.wide(self.product(precision.narrow(x), precision.factor(w)))

    def bprop(self, x: Tensor, w: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """``dx = dy wᵀ, dw = xᵀ dy``."""
        precision = self.precision
        dy = precision.narrow(dout)
        dx = self.product_bt(dy, precision.factor(w))
        dw = self.product_at(precision.narrow(x), dy)
        return precision.wide(dx), precision.wide(dw)


class Bias(nn.Cell):
    """Bias addition ``y = x + b``.

    Why: the stock gradient of a bias (BiasAddGrad) takes 18 times as long as a product with ones.
    """

    def __init__(self, precision: PrecisionPolicy = FLOAT32) -> None:
        super().__init__()
        self.precision = MixedPrecision(precision)
        self.product = P.MatMul()
        self.add_bias = P.BiasAdd()
        self.ones = P.Ones()

    def construct(self, x: Tensor, b: Tensor) -> Tensor:
        """``[rows, out] + [out] → [rows, out]``."""
        return self.add_bias(x, self.precision.rounded(b))

    def bprop(self, x: Tensor, b: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """``dx = dy, db = 1ᵀ dy``."""
        rows = self.ones((1, x.shape[0]), ms.float32)
        return dout, self.product(rows, dout).reshape(b.shape)
