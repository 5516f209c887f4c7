"""Number formats: what products compute in, and what parameters are held in."""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.layout.precision import PrecisionPolicy


class MixedPrecision(nn.Cell):
    """Casts of a precision.

    Parameters are float32 everywhere: they are the master weights. Where ``params`` is narrower,
    each use rounds them to it, which is what a copy in that format would hold, and gradients reach
    the master weights whole. Products take narrow factors and give float32; sums, norms, softmax
    and the loss are float32 always.

    Args:
        precision: the formats.
    """

    def __init__(self, precision: PrecisionPolicy) -> None:
        super().__init__()
        self.params = getattr(ms, precision.params)
        self.compute = getattr(ms, precision.compute)
        self.rounds = precision.params != "float32"
        self.narrows = precision.compute != "float32"
        self.cast = P.Cast()

    def held(self, weight: Tensor) -> Tensor:
        """Return a parameter as its format holds it, in float32."""
        if self.rounds:
            weight = self.cast(self.cast(weight, self.params), ms.float32)
        return weight

    def factor(self, weight: Tensor) -> Tensor:
        """Return a parameter as the factor of a product."""
        return self.narrow(self.held(weight))

    def narrow(self, x: Tensor) -> Tensor:
        """Return an activation or a gradient as the factor of a product."""
        if self.narrows:
            x = self.cast(x, self.compute)
        return x

    def wide(self, x: Tensor) -> Tensor:
        """Return a product in float32."""
        if self.narrows:
            x = self.cast(x, ms.float32)
        return x


class StraightThroughRound(nn.Cell):
    """``MixedPrecision.held`` whose gradient passes unrounded."""

    def __init__(self, precision: PrecisionPolicy) -> None:
        super().__init__()
        self.numbers = MixedPrecision(precision)

    def construct(self, weight: Tensor) -> Tensor:
        """Any shape."""
        return self.numbers.held(weight)

    def bprop(self, weight: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Straight through."""
        return (dout,)
