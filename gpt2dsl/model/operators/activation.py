"""The activations of the MLP, by the names that Hugging Face's config.json has for them."""

from __future__ import annotations

import math

import mindspore.ops.operations as P
from mindspore import Tensor, nn


class TanhGelu(nn.Cell):
    """gelu_new: ``0.5 x (1 + tanh(u)) = x sigmoid(2u)``, ``u = sqrt(2/pi) (x + 0.044715 x³)``.

    Why: the stock GeLU kernel is 7 times slower, and the CPU's Tanh errs by 1e-4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = P.Sigmoid()
        self.linear = 2 * math.sqrt(2 / math.pi)
        self.cubic = 0.044715 * self.linear

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return x * self.sigmoid(x * (x * x * self.cubic + self.linear))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``s + x s (1 - s) 2u'`` with ``s = sigmoid(2u)``."""
        square = x * x
        s = self.sigmoid(x * (square * self.cubic + self.linear))  # as in the forward pass
        slope = square * (3 * self.cubic) + self.linear
        return (dout * (s + x * s * (1.0 - s) * slope),)


class ErfGelu(nn.Cell):
    """gelu: ``0.5 x (1 + erf(x / sqrt(2)))`` (Hendrycks & Gimpel 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.erf = P.Erf()
        self.exp = P.Exp()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return 0.5 * x * (1.0 + self.erf(x * math.sqrt(0.5)))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """The normal distribution's function plus ``x`` times its density."""
        cumulative = 0.5 * (1.0 + self.erf(x * math.sqrt(0.5)))
        density = self.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
        return (dout * (cumulative + x * density),)


class FastGelu(nn.Cell):
    """fast_gelu: ``x sigmoid(1.702 x)``, which is what MindSpore's FastGeLU computes.

    Why: FastGeLU is an Ascend kernel; this runs everywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = P.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return x * self.sigmoid(1.702 * x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``s + 1.702 x s (1 - s)``."""
        s = self.sigmoid(1.702 * x)
        return (dout * (s + 1.702 * x * s * (1.0 - s)),)


def activation(name: str) -> nn.Cell:
    """The operator of a name of ``layout.geometry.ACTIVATIONS``."""
    known = {"gelu_new": TanhGelu, "gelu": ErfGelu, "fast_gelu": FastGelu, "relu": nn.ReLU}
    return known[name]()
