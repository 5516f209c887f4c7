"""Layer normalisation."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.kernels.mixed_precision import MixedPrecision
from gpt2dsl.layout.precision import FLOAT32, PrecisionPolicy

Three = tuple[Tensor, Tensor, Tensor]


class LayerNorm(nn.Cell):
    """``y = (x - mean) / sqrt(var + epsilon) * g + b`` over the last axis (Ba et al. 2016).

    Why: ``ops.layer_norm`` has no CPU kernel, and the stock gradient (LayerNormGrad) takes 1.6
    times as long as this one.
    """

    def __init__(self, epsilon: float, precision: PrecisionPolicy = FLOAT32) -> None:
        super().__init__()
        self.precision = MixedPrecision(precision)
        self.epsilon = epsilon
        self.norm = P.LayerNorm(-1, -1, epsilon)
        self.product = P.MatMul()
        self.sqrt = P.Sqrt()
        self.ones = P.Ones()

    def construct(self, x: Tensor, g: Tensor, b: Tensor) -> Three:
        """``[rows, width] → [rows, width]``; mean and variance, ``[rows, 1]``, for the gradient."""
        return self.norm(x, self.precision.rounded(g), self.precision.rounded(b))

    def bprop(self, x: Tensor, g: Tensor, b: Tensor, out: Three, dout: Three) -> Three:
        """Return ``gradients`` with the mean and variance of the forward pass."""
        return self.gradients(x, g, b, out[1], out[2], dout[0])

    def gradients(
        self, x: Tensor, g: Tensor, b: Tensor, mean: Tensor, variance: Tensor, dy: Tensor
    ) -> Three:
        """``dx = (dn - mean(dn) - n mean(dn n)) / sigma``, ``n`` the normalised x, ``dn = dy g``.

        Sums over rows and columns are matrix products with ones.
        """
        rows, width = x.shape
        sigma = self.sqrt(variance + self.epsilon)  # [rows, 1]
        n = (x - mean) / sigma  # [rows, width]
        dn = dy * self.precision.rounded(g)
        column = self.ones((width, 1), ms.float32)
        mean_dn = self.product(dn, column) / width  # [rows, 1]
        mean_dn_n = self.product(dn * n, column) / width
        dx = (dn - mean_dn - n * mean_dn_n) / sigma
        row = self.ones((1, rows), ms.float32)
        dg = self.product(row, dy * n).reshape(g.shape)
        db = self.product(row, dy).reshape(b.shape)
        return dx, dg, db


class KnownLayerNorm(nn.Cell):
    """Layer norm with saved mean and variance, which its gradient reuses."""

    def __init__(self, norm: LayerNorm) -> None:
        super().__init__(auto_prefix=False)
        self.norm = norm

    def construct(self, x: Tensor, g: Tensor, b: Tensor, mean: Tensor, variance: Tensor) -> Three:
        """``[rows, width] → [rows, width]``, mean and variance, as ``LayerNorm``."""
        return self.norm(x, g, b)

    def bprop(
        self, x: Tensor, g: Tensor, b: Tensor, mean: Tensor, variance: Tensor,
        out: Three, dout: Three,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return ``LayerNorm``'s gradients; the saved moments have none."""
        dx, dg, db = self.norm.gradients(x, g, b, mean, variance, dout[0])
        return dx, dg, db, mean, variance
