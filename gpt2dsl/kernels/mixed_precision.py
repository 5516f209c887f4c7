"""Mixed precision: compute format of matrix products, storage format of parameters."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.layout.precision import PrecisionPolicy


class MixedPrecision(nn.Cell):
    """Casts of a precision policy.

    Parameters are always float32 master weights. If ``params`` is narrower, each use rounds them to
    it, as a copy in that format would be, and gradients reach the master weights unrounded. Matrix
    products take narrow factors and return float32; sums, norms, softmax and the loss are always
    float32.

    Args:
        precision: the precision policy.
    """

    def __init__(self, precision: PrecisionPolicy) -> None:
        super().__init__()
        self.params = getattr(ms, precision.params)
        self.compute = getattr(ms, precision.compute)
        self.rounds = precision.params != "float32"
        self.narrows = precision.compute != "float32"
        self.cast = P.Cast()

    def rounded(self, weight: Tensor) -> Tensor:
        """Round a parameter to its storage format; return it in float32."""
        if self.rounds:
            weight = self.cast(self.cast(weight, self.params), ms.float32)
        return weight

    def factor(self, weight: Tensor) -> Tensor:
        """Round a parameter and cast it to the compute format of matrix products."""
        return self.narrow(self.rounded(weight))

    def narrow(self, x: Tensor) -> Tensor:
        """Cast an activation or a gradient to the compute format of matrix products."""
        if self.narrows:
            x = self.cast(x, self.compute)
        return x

    def wide(self, x: Tensor) -> Tensor:
        """Cast a matrix product to float32."""
        if self.narrows:
            x = self.cast(x, ms.float32)
        return x


class StraightThroughRound(nn.Cell):
    """``MixedPrecision.rounded`` with a straight-through gradient."""

    def __init__(self, precision: PrecisionPolicy) -> None:
        super().__init__()
        self.precision = MixedPrecision(precision)

    def construct(self, weight: Tensor) -> Tensor:
        """Round a weight of any shape."""
        return self.precision.rounded(weight)

    def bprop(self, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Pass the gradient through unchanged."""
        return (dout,)
