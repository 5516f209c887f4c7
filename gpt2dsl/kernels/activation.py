"""MLP activations, by their names in Hugging Face's config.json."""

from __future__ import annotations

import math

import mindspore as ms
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
        """``Phi(x) + x phi(x)``: the normal CDF plus ``x`` times its density."""
        cumulative = 0.5 * (1.0 + self.erf(x * math.sqrt(0.5)))
        density = self.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
        return (dout * (cumulative + x * density),)


class FastGelu(nn.Cell):
    """fast_gelu: ``x sigmoid(1.702 x)``, as MindSpore's FastGeLU.

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


class Silu(nn.Cell):
    """silu: ``x sigmoid(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = P.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return x * self.sigmoid(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``s + x s (1 - s)``."""
        s = self.sigmoid(x)
        return (dout * (s + x * s * (1.0 - s)),)


class ClippedGelu(nn.Cell):
    """gelu_10: gelu, clipped to [-10, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.gelu = ErfGelu()
        self.least, self.most = P.Minimum(), P.Maximum()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return self.least(self.most(self.gelu(x), -10.0), 10.0)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Return gelu's gradient, 0 above 10; the lower bound never clips (gelu > -0.2)."""
        is_inside = (self.gelu(x) <= 10.0).astype(ms.float32)
        return (self.gelu.bprop(x, out, dout)[0] * is_inside,)


class Laplace(nn.Cell):
    """laplace: ``0.5 (1 + erf((x - mu) / (sigma sqrt(2))))`` (Ma et al. 2022, MEGA)."""

    def __init__(self) -> None:
        super().__init__()
        self.erf, self.exp = P.Erf(), P.Exp()
        self.mean, self.factor = 0.707107, 1 / (0.282095 * math.sqrt(2))

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return 0.5 * (1.0 + self.erf((x - self.mean) * self.factor))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Return the gradient: the density of the normal distribution."""
        u = (x - self.mean) * self.factor
        return (dout * self.exp(-u * u) * (self.factor / math.sqrt(math.pi)),)


class LeakyRelu(nn.Cell):
    """leaky_relu: ``x`` above 0, else ``0.01 x``."""

    def __init__(self) -> None:
        super().__init__()
        self.most = P.Maximum()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return self.most(x, x * 0.01)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Slope 1 above 0, else 0.01."""
        return (dout * ((x > 0.0).astype(ms.float32) * 0.99 + 0.01),)


class LinearActivation(nn.Cell):
    """linear: ``x``."""

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return x * 1.0


class Mish(nn.Cell):
    """mish: ``x tanh(log(1 + exp(x)))`` (Misra 2019), computed as ``x n / (n + 2)``.

    ``n = e (e + 2)``, ``e = exp(x)``; above 20 the quotient is 1 in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exp, self.least, self.sigmoid = P.Exp(), P.Minimum(), P.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        e = self.exp(self.least(x, 20.0))
        n = e * (e + 2.0)
        return x * (n / (n + 2.0))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``q + x sigmoid(x) (1 - q²)`` with the quotient ``q``."""
        e = self.exp(self.least(x, 20.0))
        n = e * (e + 2.0)
        q, complement = n / (n + 2.0), 2.0 / (n + 2.0)
        return (dout * (q + x * self.sigmoid(x) * complement * (1.0 + q)),)


class SquaredRelu(nn.Cell):
    """relu2: ``max(x, 0)²`` (So et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = P.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        y = self.relu(x)
        return y * y

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``2 max(x, 0)``."""
        return (dout * 2.0 * self.relu(x),)


class Relu6(nn.Cell):
    """relu6: ``x`` clipped to [0, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.least = P.ReLU(), P.Minimum()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return self.least(self.relu(x), 6.0)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """Slope 1 between 0 and 6, else 0."""
        return (dout * (x > 0.0).astype(ms.float32) * (x < 6.0).astype(ms.float32),)


class Sigmoid(nn.Cell):
    """sigmoid: ``1 / (1 + exp(-x))``."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = P.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return self.sigmoid(x)


class Tanh(nn.Cell):
    """tanh: ``2 sigmoid(2x) - 1``.

    Why: the CPU's Tanh errs by 1e-4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = P.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        """``[rows, inner] → [rows, inner]``."""
        return 2.0 * self.sigmoid(2.0 * x) - 1.0

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``4 s (1 - s)``."""
        s = self.sigmoid(2.0 * x)
        return (dout * 4.0 * s * (1.0 - s),)


OPERATORS: dict[str, type[nn.Cell]] = {
    "gelu_new": TanhGelu,
    "gelu": ErfGelu,
    "fast_gelu": FastGelu,
    "relu": nn.ReLU,
    "gelu_10": ClippedGelu,
    "laplace": Laplace,
    "leaky_relu": LeakyRelu,
    "linear": LinearActivation,
    "mish": Mish,
    "relu2": SquaredRelu,
    "relu6": Relu6,
    "sigmoid": Sigmoid,
    "silu": Silu,
    "tanh": Tanh,
}
"""Name in ``layout.config.ACTIVATIONS`` → operator."""


def activation(name: str) -> nn.Cell:
    """Return the operator for a name in ``layout.config.ACTIVATIONS``.

    Raises:
        KeyError: the name is unknown.
    """
    return OPERATORS[name]()
