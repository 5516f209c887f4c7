"""Optimizers: they change parameters in place, each with float32 state of its own."""

from __future__ import annotations

from collections.abc import Mapping

import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn

from gpt2dsl.layout.tensors import decays
from gpt2dsl.parts import Optim

Tensors = tuple[Tensor, ...]


class Optimizer(nn.Cell):
    """What optimizers share: decoupled weight decay.

    Args:
        trained: name → parameter.
        optim: the recipe's.
    """

    STATES: tuple[str, ...]

    def __init__(self, trained: Mapping[str, Parameter], optim: Optim) -> None:
        super().__init__(auto_prefix=False)
        weights = list(trained.values())
        self.weights = ParameterTuple(weights)
        self.weight_decay = optim.weight_decay
        self.decaying = tuple(i for i, weight in enumerate(weights) if decays(weight.shape))
        self.descend = P.ApplyGradientDescent()

    def decay(self, rate: Tensor) -> None:
        """``p -= rate * p`` for what decays."""
        if self.weight_decay > 0:
            for i in self.decaying:
                self.descend(self.weights[i], rate, self.weights[i])

    def powers(self, updates: int) -> tuple[float, float]:
        """What ``construct`` is given, for an update with its number, from 1."""
        raise NotImplementedError

    def states(self) -> tuple[Parameter, ...]:
        """The state, ``<kind>.<name>``."""
        return tuple(value for kind in self.STATES for value in getattr(self, kind))


class AdamW(Optimizer):
    """AdamW (Loshchilov & Hutter 2019)."""

    STATES = ("m", "v")

    def __init__(self, trained: Mapping[str, Parameter], optim: Optim) -> None:
        super().__init__(trained, optim)
        self.m = ParameterTuple(_zeros("m", trained))
        self.v = ParameterTuple(_zeros("v", trained))
        self.beta1, self.beta2, self.eps = optim.beta1, optim.beta2, optim.eps
        self.corrects = optim.bias_correction
        self.adam = P.Adam()
        self.sqrt = P.Sqrt()

    def construct(self, gradients: Tensors, lr: Tensor, power1: Tensor, power2: Tensor) -> None:
        """Moments and parameters.

        MindSpore's Adam adds eps before the correction of ``v``, the paper and torch after it:
        ``eps sqrt(1 - power2)`` before is ``eps`` after.
        """
        self.decay(lr * self.weight_decay)
        eps = self.eps * self.sqrt(1.0 - power2)
        for i, gradient in enumerate(gradients):
            self.adam(
                self.weights[i], self.m[i], self.v[i], power1, power2, lr,
                self.beta1, self.beta2, eps, gradient,
            )  # fmt: skip

    def powers(self, updates: int) -> tuple[float, float]:
        """``beta ** updates``; 0 where nothing is corrected, as in MindFormers."""
        if not self.corrects:
            return 0.0, 0.0
        return self.beta1**updates, self.beta2**updates


class SGD(Optimizer):
    """Gradient descent with momentum, ``u = momentum u + g; p -= lr u``, as torch has it."""

    STATES = ("u",)

    def __init__(self, trained: Mapping[str, Parameter], optim: Optim) -> None:
        super().__init__(trained, optim)
        self.u = ParameterTuple(_zeros("u", trained))
        self.momentum = optim.momentum
        self.apply = P.ApplyMomentum()

    def construct(self, gradients: Tensors, lr: Tensor, power1: Tensor, power2: Tensor) -> None:
        """Momentum and parameters."""
        self.decay(lr * self.weight_decay)
        for i, gradient in enumerate(gradients):
            self.apply(self.weights[i], self.u[i], lr, gradient, self.momentum)

    def powers(self, updates: int) -> tuple[float, float]:
        """It has no use for them."""
        return 0.0, 0.0


def optimizer(trained: Mapping[str, Parameter], optim: Optim) -> Optimizer:
    """The optimizer of a recipe."""
    return {"adamw": AdamW, "sgd": SGD}[optim.name](trained, optim)


def _zeros(kind: str, trained: Mapping[str, Parameter]) -> list[Parameter]:
    return [
        Parameter(
            Tensor(np.zeros(weight.shape, np.float32)), name=f"{kind}.{name}", requires_grad=False
        )
        for name, weight in trained.items()
    ]
