"""Tensors multiplied in place: no copy of a word table, and half the time of one.

MindSpore 2.10 has no such operator on CPU, but a step of proximal gradient descent (Duchi & Singer
2009). From ``x`` along ``x`` it gives ``(x - alpha x) / (1 + alpha l2)``.
"""

from __future__ import annotations

from collections.abc import Iterable

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Tensor

LOST = 2.0**-30
"""An alpha of which ``x - alpha x`` is ``x``, in float32."""

_proximal_step = P.ApplyProximalGradientDescent()


def multiply(tensors: Iterable[Tensor], factor: float) -> None:
    """``x = factor x``, rounded once more than a product."""
    if factor != 1:
        _step(tensors, LOST, (1 / factor - 1) / LOST)


def shrink(tensors: Iterable[Tensor], rate: float) -> None:
    """``x -= rate x``, of a rate that ``1 - rate`` would lose digits of."""
    if rate:
        _step(tensors, rate, 0.0)


def _step(tensors: Iterable[Tensor], alpha: float, l2: float) -> None:
    given = [Tensor(number, ms.float32) for number in (alpha, 0.0, l2)]
    for tensor in tensors:
        _proximal_step(tensor, *given, tensor)
