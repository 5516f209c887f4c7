"""Activations of the MLP as nodes of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable

from gpt2dsl.lite.onnx_nodes import Nodes


def activation(graph: Nodes, x: str, name: str) -> str:
    """Add an activation of ``layout.config.ACTIVATIONS``; return the name of its output.

    Raises:
        KeyError: the activation is unknown.
    """
    return FORMULAS[name](graph, x)


def _relu(graph: Nodes, x: str) -> str:
    return graph.op("Relu", x)


def _gelu(graph: Nodes, x: str) -> str:
    """Add ``0.5 x (1 + erf(x / sqrt(2)))``."""
    erf = graph.op("Erf", graph.op("Mul", x, graph.number(math.sqrt(0.5))))
    factor = graph.op("Add", erf, graph.number(1.0))
    return graph.op("Mul", graph.op("Mul", x, graph.number(0.5)), factor)


def _gelu_10(graph: Nodes, x: str) -> str:
    return graph.op("Clip", _gelu(graph, x), graph.number(-10.0), graph.number(10.0))


def _gelu_new(graph: Nodes, x: str) -> str:
    """Add ``x sigmoid(2 sqrt(2/pi) (x + 0.044715 x³))``."""
    cube = graph.op("Mul", graph.op("Mul", x, x), x)
    inner = graph.op("Add", x, graph.op("Mul", cube, graph.number(0.044715)))
    u = graph.op("Mul", inner, graph.number(2 * math.sqrt(2 / math.pi)))
    return graph.op("Mul", x, graph.op("Sigmoid", u))


def _fast_gelu(graph: Nodes, x: str) -> str:
    u = graph.op("Mul", x, graph.number(1.702))
    return graph.op("Mul", x, graph.op("Sigmoid", u))


def _silu(graph: Nodes, x: str) -> str:
    return graph.op("Mul", x, graph.op("Sigmoid", x))


def _laplace(graph: Nodes, x: str) -> str:
    """Add ``0.5 (1 + erf((x - mu) / (sigma sqrt(2))))``."""
    centred = graph.op("Sub", x, graph.number(0.707107))
    erf = graph.op("Erf", graph.op("Mul", centred, graph.number(1 / (0.282095 * math.sqrt(2)))))
    return graph.op("Mul", graph.op("Add", erf, graph.number(1.0)), graph.number(0.5))


def _leaky_relu(graph: Nodes, x: str) -> str:
    return graph.op("LeakyRelu", x, alpha=0.01)


def _linear(_: Nodes, x: str) -> str:
    return x


def _mish(graph: Nodes, x: str) -> str:
    """Add ``x n / (n + 2)``, ``n = e (e + 2)``, ``e = exp(x)``; the quotient is 1 above 20."""
    e = graph.op("Exp", graph.op("Clip", x, graph.number(-3e38), graph.number(20.0)))
    n = graph.op("Mul", e, graph.op("Add", e, graph.number(2.0)))
    quotient = graph.op("Div", n, graph.op("Add", n, graph.number(2.0)))
    return graph.op("Mul", x, quotient)


def _relu2(graph: Nodes, x: str) -> str:
    y = graph.op("Relu", x)
    return graph.op("Mul", y, y)


def _relu6(graph: Nodes, x: str) -> str:
    return graph.op("Clip", x, graph.number(0.0), graph.number(6.0))


def _sigmoid(graph: Nodes, x: str) -> str:
    return graph.op("Sigmoid", x)


def _tanh(graph: Nodes, x: str) -> str:
    """Add ``2 sigmoid(2x) - 1``."""
    s = graph.op("Sigmoid", graph.op("Mul", x, graph.number(2.0)))
    return graph.op("Sub", graph.op("Mul", s, graph.number(2.0)), graph.number(1.0))


FORMULAS: dict[str, Callable[[Nodes, str], str]] = {
    "gelu_new": _gelu_new,
    "gelu": _gelu,
    "fast_gelu": _fast_gelu,
    "relu": _relu,
    "gelu_10": _gelu_10,
    "laplace": _laplace,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "mish": _mish,
    "relu2": _relu2,
    "relu6": _relu6,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "tanh": _tanh,
}
"""Name in ``layout.config.ACTIVATIONS`` → function that adds its nodes."""
