"""Optimizers: they change parameters in place, each with float32 state of its own.

A graph updates the parameters of one layer: it is compiled once for all layers that are alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import mindspore as ms
import mindspore.ops.operations as P
from mindspore import Parameter, Tensor

from gpt2dsl.layout.tensors import by_layer, decays
from gpt2dsl.model.call import Call
from gpt2dsl.model.parameters import touching, zeros
from gpt2dsl.parts import Optim


class Optimizer:
    """Updates of parameters, and their state.

    Args:
        trained: name → parameter.
        optim: the recipe's.
    """

    def __init__(self, trained: Mapping[str, Parameter], optim: Optim) -> None:
        self.weights = tuple(trained.values())
        self.kinds = {"adamw": ("m", "v"), "sgd": ("u",)}[optim.name]
        self._state = [_zeros(kind, trained) for kind in self.kinds]
        self._touching = touching(itertools.chain(*self._state))
        self._optim, self._layers = optim, by_layer(list(trained))
        made = {"adamw": AdamW, "sgd": SGD}[optim.name]
        self._graphs = {is_scaled: made(optim, is_scaled) for is_scaled in (False, True)}

    def update(self, gradients: Sequence[Tensor], factor: float, lr: float, updates: int) -> None:
        """Change the parameters.

        Args:
            gradients: of the weights, in their order.
            factor: of the gradients.
            lr: learning rate.
            updates: how many this makes, from 1.
        """
        self._touching.join()
        graph = self._graphs[factor != 1]
        numbers = (lr, lr * self._optim.weight_decay, factor, *graph.numbers(updates))
        given = [Tensor(number, ms.float32) for number in numbers]
        for layer in self._layers:
            some = [[values[i] for i in layer] for values in (self.weights, *self._state)]
            graph(*given, *itertools.chain(*some), *(gradients[i] for i in layer))

    def states(self) -> tuple[Parameter, ...]:
        """The state, ``<kind>.<name>``."""
        self._touching.join()
        return tuple(itertools.chain(*self._state))


class Update(Call):
    """An update of some parameters, with decoupled weight decay.

    Args:
        optim: of the recipe; rate and decay are given with each call.
        is_scaled: whether gradients are multiplied by the factor.
    """

    def __init__(self, optim: Optim, is_scaled: bool) -> None:
        fixed = optim.evolve(lr=1.0, weight_decay=float(optim.weight_decay > 0))
        super().__init__(fixed, is_scaled, writes=True)
        self.optim, self.decays, self.is_scaled = optim, optim.weight_decay > 0, is_scaled
        self.descend = P.ApplyGradientDescent()

    def decay(self, weight: Parameter, rate: Tensor) -> None:
        """``p -= rate p``, of what decays."""
        if self.decays and decays(weight.shape):
            self.descend(weight, rate, weight)

    def scaled(self, gradient: Tensor, factor: Tensor) -> Tensor:
        """Times the factor."""
        if self.is_scaled:
            gradient = gradient * factor
        return gradient

    def numbers(self, updates: int) -> tuple[float, ...]:
        """What it is given after rate, decay and factor, for an update with its number, from 1."""
        raise NotImplementedError


class AdamW(Update):
    """AdamW (Loshchilov & Hutter 2019)."""

    def __init__(self, optim: Optim, is_scaled: bool) -> None:
        super().__init__(optim, is_scaled)
        self.beta1, self.beta2 = optim.beta1, optim.beta2
        self.adam = P.Adam()

    def construct(
        self, lr: Tensor, decay: Tensor, factor: Tensor, power1: Tensor, power2: Tensor,
        eps: Tensor, *rest: Tensor,
    ) -> Tensor:  # fmt: skip
        """Numbers, then weights, both moments and gradients, as many of each."""
        count = len(rest) // 4
        for i in range(count):
            weight, gradient = rest[i], self.scaled(rest[3 * count + i], factor)
            self.decay(weight, decay)
            self.adam(
                weight, rest[count + i], rest[2 * count + i], power1, power2, lr,
                self.beta1, self.beta2, eps, gradient,
            )  # fmt: skip
        return lr

    def numbers(self, updates: int) -> tuple[float, ...]:
        """Powers of both betas, and eps.

        Powers are 0 where nothing is corrected, as in MindFormers. MindSpore's Adam adds eps before
        the correction of ``v``, the paper and torch after it: ``eps sqrt(1 - power2)`` before is
        ``eps`` after.
        """
        optim, powers = self.optim, (0.0, 0.0)
        if optim.bias_correction:
            powers = (optim.beta1**updates, optim.beta2**updates)
        return (*powers, optim.eps * math.sqrt(1 - powers[1]))


class SGD(Update):
    """Gradient descent with momentum, ``u = momentum u + g; p -= lr u``, as torch has it."""

    def __init__(self, optim: Optim, is_scaled: bool) -> None:
        super().__init__(optim, is_scaled)
        self.momentum, self.apply = optim.momentum, P.ApplyMomentum()

    def construct(self, lr: Tensor, decay: Tensor, factor: Tensor, *rest: Tensor) -> Tensor:
        """Numbers, then weights, momentum and gradients, as many of each."""
        count = len(rest) // 3
        for i in range(count):
            gradient = self.scaled(rest[2 * count + i], factor)
            self.decay(rest[i], decay)
            self.apply(rest[i], rest[count + i], lr, gradient, self.momentum)
        return lr

    def numbers(self, updates: int) -> tuple[float, ...]:
        """None."""
        return ()


def _zeros(kind: str, trained: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
    return tuple(zeros(f"{kind}.{name}", weight.shape) for name, weight in trained.items())
