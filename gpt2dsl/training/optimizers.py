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

from gpt2dsl.backend.in_place import shrink
from gpt2dsl.backend.memory import touching, zeros
from gpt2dsl.backend.parameterized_cell import ParameterizedCell
from gpt2dsl.layout.params import by_layer, decays
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
        self._state = [
            tuple(zeros(f"{kind}.{name}", weight.shape) for name, weight in trained.items())
            for kind in self.kinds
        ]
        self._touching = touching(itertools.chain(*self._state))
        self._optim, self._layers = optim, by_layer(list(trained))
        self._decaying = [weight for weight in self.weights if decays(weight.shape)]
        self._graph = {"adamw": AdamW, "sgd": SGD}[optim.name](optim)

    def update(self, gradients: Sequence[Tensor], lr: float, updates: int) -> None:
        """Change the parameters.

        Args:
            gradients: of the weights, in their order.
            lr: learning rate.
            updates: how many this makes, from 1.
        """
        self._touching.join()
        shrink(self._decaying, lr * self._optim.weight_decay)
        given = [Tensor(number, ms.float32) for number in (lr, *self._graph.numbers(updates))]
        for layer in self._layers:
            some = [[values[i] for i in layer] for values in (self.weights, *self._state)]
            self._graph(*given, *itertools.chain(*some), *(gradients[i] for i in layer))

    def states(self) -> tuple[Parameter, ...]:
        """Return the state, ``<kind>.<name>``."""
        self._touching.join()
        return tuple(itertools.chain(*self._state))


class Update(ParameterizedCell):
    """An update of some parameters, without the decay.

    It gives its rate, because a graph has to give something.

    Args:
        optim: of the recipe; the rate is given with each call.
    """

    def __init__(self, optim: Optim) -> None:
        super().__init__(optim.evolve(lr=1.0, weight_decay=0.0), writes=True)
        self.optim = optim

    def numbers(self, updates: int) -> tuple[float, ...]:
        """What it is given after the rate, for an update with its number, from 1."""
        raise NotImplementedError


class AdamW(Update):
    """AdamW (Loshchilov & Hutter 2019)."""

    def __init__(self, optim: Optim) -> None:
        super().__init__(optim)
        self.beta1, self.beta2 = optim.beta1, optim.beta2
        self.adam = P.Adam()

    def construct(
        self, lr: Tensor, power1: Tensor, power2: Tensor, eps: Tensor, *rest: Tensor
    ) -> Tensor:
        """Numbers, then weights, both moments and gradients, as many of each."""
        count = len(rest) // 4
        for i in range(count):
            self.adam(
                rest[i], rest[count + i], rest[2 * count + i], power1, power2, lr,
                self.beta1, self.beta2, eps, rest[3 * count + i],
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

    def __init__(self, optim: Optim) -> None:
        super().__init__(optim)
        self.momentum, self.apply = optim.momentum, P.ApplyMomentum()

    def construct(self, lr: Tensor, *rest: Tensor) -> Tensor:
        """Numbers, then weights, momentum and gradients, as many of each."""
        count = len(rest) // 3
        for i in range(count):
            self.apply(rest[i], rest[count + i], lr, rest[2 * count + i], self.momentum)
        return lr

    def numbers(self, updates: int) -> tuple[float, ...]:
        """None."""
        return ()
