"""Optimizers with float32 state, which update parameters in place.

A graph updates one layer's parameters and is compiled once for all layers of the same shapes.
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
from gpt2dsl.layout.optimizer import OptimizerConfig
from gpt2dsl.layout.params import by_layer, decays


class Optimizer:
    """Optimizer over named parameters: updates and state.

    Args:
        trained: name → parameter.
        config: settings of the optimizer.
    """

    def __init__(self, trained: Mapping[str, Parameter], config: OptimizerConfig) -> None:
        self.weights = tuple(trained.values())
        self.kinds = {"adamw": ("m", "v"), "sgd": ("u",)}[config.name]
        self._state = [
            tuple(zeros(f"{kind}.{name}", weight.shape) for name, weight in trained.items())
            for kind in self.kinds
        ]
        self._touching = touching(itertools.chain(*self._state))
        self._weight_decay, self._layers = config.weight_decay, by_layer(list(trained))
        self._decaying = [weight for weight in self.weights if decays(weight.shape)]
        self._graph = {"adamw": AdamW, "sgd": SGD}[config.name](config)

    def update(self, gradients: Sequence[Tensor], lr: float, updates: int) -> None:
        """Update the parameters in place.

        Args:
            gradients: gradients, in the order of the weights.
            lr: learning rate.
            updates: number of this update, from 1.
        """
        self._touching.join()
        shrink(self._decaying, lr * self._weight_decay)
        scalars = [Tensor(number, ms.float32) for number in (lr, *self._graph.numbers(updates))]
        for layer in self._layers:
            layer_tensors = [[values[i] for i in layer] for values in (self.weights, *self._state)]
            self._graph(*scalars, *itertools.chain(*layer_tensors), *(gradients[i] for i in layer))

    def states(self) -> tuple[Parameter, ...]:
        """Return the state tensors, named ``<kind>.<name>``."""
        self._touching.join()
        return tuple(itertools.chain(*self._state))


class Update(ParameterizedCell):
    """Update graph of some parameters, without weight decay.

    It returns the learning rate, because a graph must return something.
    """

    def numbers(self, updates: int) -> tuple[float, ...]:
        """Return the scalar arguments after the learning rate, for update number ``updates``."""
        raise NotImplementedError


class AdamW(Update):
    """AdamW (Loshchilov & Hutter 2019)."""

    def __init__(self, config: OptimizerConfig) -> None:
        super().__init__(config.beta1, config.beta2, writes=True)
        self.beta1, self.beta2 = config.beta1, config.beta2
        self.eps, self.bias_correction = config.eps, config.bias_correction
        self.adam = P.Adam()

    def construct(
        self, lr: Tensor, power1: Tensor, power2: Tensor, eps: Tensor, *rest: Tensor
    ) -> Tensor:
        """Apply Adam; ``rest`` is equally many weights, ``m``, ``v`` and gradients."""
        count = len(rest) // 4
        for i in range(count):
            self.adam(
                rest[i], rest[count + i], rest[2 * count + i], power1, power2, lr,
                self.beta1, self.beta2, eps, rest[3 * count + i],
            )  # fmt: skip
        return lr

    def numbers(self, updates: int) -> tuple[float, ...]:
        """Return the powers of both betas, and eps.

        Powers are 0 without bias correction, as in MindFormers. MindSpore's Adam adds eps before
        correcting ``v``, the paper and torch after it: ``eps sqrt(1 - power2)`` before equals
        ``eps`` after.
        """
        powers = (0.0, 0.0)
        if self.bias_correction:
            powers = (self.beta1**updates, self.beta2**updates)
        return (*powers, self.eps * math.sqrt(1 - powers[1]))


class SGD(Update):
    """SGD with momentum, ``u = momentum u + g; p -= lr u``, as in torch."""

    def __init__(self, config: OptimizerConfig) -> None:
        super().__init__(config.momentum, writes=True)
        self.momentum, self.apply = config.momentum, P.ApplyMomentum()

    def construct(self, lr: Tensor, *rest: Tensor) -> Tensor:
        """Apply momentum SGD; ``rest`` is equally many weights, ``u`` and gradients."""
        count = len(rest) // 3
        for i in range(count):
            self.apply(rest[i], rest[count + i], lr, rest[2 * count + i], self.momentum)
        return lr

    def numbers(self, updates: int) -> tuple[float, ...]:
        """Return no scalars."""
        return ()
