"""An update that copies of a network share (ZeRO-1), and who of them updates what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor

from gpt2dsl.distributed.process_groups import DataParallelGroup
from gpt2dsl.layout.shard_spec import has_equal_rows
from gpt2dsl.training.gradients import BucketedAllReduce, buckets
from gpt2dsl.training.optimizers import Optimizer


class Updates(Protocol):
    """What changes the parameters: ``Optimizer``, or ``ZeroOptimizer``."""

    def update(self, gradients: Sequence[Tensor], lr: float, updates: int) -> None:
        """As ``Optimizer.update``."""


class ZeroOptimizer:
    """An update of which each copy does a part, and then has all (ZeRO-1, Rajbhandari et al. 2020).

    Args:
        weights: all parameters, whole.
        optimizer: of the parts that this copy updates, as ``parts`` makes them.
        copies: that do the others.
    """

    def __init__(
        self, weights: Sequence[Parameter], optimizer: Optimizer, copies: DataParallelGroup
    ) -> None:
        self._optimizer, self._copies = optimizer, copies
        both = zip(weights, optimizer.weights, strict=True)
        self._split = {one.name: (one, part) for one, part in both if part is not one}
        self._buckets = buckets({name: one.shape for name, (one, _) in self._split.items()})
        self._total, self._assign, self._concat = (
            BucketedAllReduce(copies.group),
            P.Assign(),
            P.Concat(0),
        )

    def update(self, gradients: Sequence[Tensor], lr: float, updates: int) -> None:
        """Update this copy's rows, and take over those of the others."""
        mine = [self._mine(gradient) for gradient in gradients]
        self._optimizer.update(mine, lr, updates)
        for names in self._buckets:
            wholes = {name: self._padded(self._split[name][1]) for name in names}
            self._total.add(wholes)
            for name, whole in wholes.items():
                self._assign(self._split[name][0], whole)

    def _mine(self, gradient: Tensor) -> Tensor:
        """Return the rows that this copy updates."""
        if not is_split(gradient.shape, self._copies):
            return gradient
        divided: tuple[Tensor, ...] = P.Split(0, self._copies.dp)(gradient)
        return divided[self._copies.index]

    def _padded(self, part: Tensor) -> Tensor:
        """This copy's rows among zeros for the others': a sum with zeros is exact."""
        copies, (count, *rest) = self._copies, part.shape
        before = np.zeros((copies.index * count, *rest), np.float32)
        after = np.zeros(((copies.dp - 1 - copies.index) * count, *rest), np.float32)
        some = [Tensor(before), part, Tensor(after)]
        return self._concat([one for one in some if one.shape[0]])


def parts(trained: dict[str, Parameter], copies: DataParallelGroup) -> dict[str, Parameter]:
    """What this copy updates: rows of each parameter, or all of one that can't be divided."""
    found = {}
    for name, weight in trained.items():
        found[name] = weight
        if is_split(weight.shape, copies):
            value = Tensor(rows_of(weight.asnumpy(), copies))
            found[name] = Parameter(value, name=f"part.{name}", requires_grad=False)
    return found


def is_split(shape: tuple[int, ...], copies: DataParallelGroup) -> bool:
    """Return whether each copy updates some rows of a parameter."""
    return copies.shards_state and has_equal_rows(shape, copies.dp)


def rows_of(array: np.ndarray, copies: DataParallelGroup) -> np.ndarray:
    """This copy's rows of an array, a copy of them."""
    count = array.shape[0] // copies.dp
    return np.array(array[copies.index * count : (copies.index + 1) * count], order="C")
