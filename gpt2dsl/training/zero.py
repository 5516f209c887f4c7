"""Sharded optimizer updates (ZeRO-1): partition of the parameters, update, gather."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor

from gpt2dsl.distributed.process_groups import ProcessGroup
from gpt2dsl.layout.shard_spec import has_equal_rows, shape_by_rows
from gpt2dsl.training.gradients import BucketedAllReduce, buckets
from gpt2dsl.training.optimizers import Optimizer


class Updates(Protocol):
    """Interface of ``Optimizer`` and ``ZeroOptimizer``."""

    def update(self, gradients: Sequence[Tensor], lr: float, updates: int) -> None:
        """Update the parameters, as ``Optimizer.update``."""


class ZeroOptimizer:
    """ZeRO-1 (Rajbhandari et al. 2020): each replica updates a shard, then all gather the weights.

    Args:
        weights: all parameters, unsharded.
        optimizer: optimizer of this replica's shards, as returned by ``local_shards``.
        group: the data parallel group.
    """

    def __init__(
        self, weights: Sequence[Parameter], optimizer: Optimizer, group: ProcessGroup
    ) -> None:
        self._weights, self._optimizer, self._group = tuple(weights), optimizer, group
        pairs = zip(weights, optimizer.weights, strict=True)
        self._split = {
            weight.name: (weight, shard) for weight, shard in pairs if shard is not weight
        }
        self._buckets = buckets({name: weight.shape for name, (weight, _) in self._split.items()})
        self._total = BucketedAllReduce(group.name)
        self._assign, self._concat = P.Assign(), P.Concat(0)

    def update(self, gradients: Sequence[Tensor], lr: float, updates: int) -> None:
        """Update this replica's rows and gather those of the others."""
        shards = [
            self._mine(weight.name, gradient)
            for weight, gradient in zip(self._weights, gradients, strict=True)
        ]
        self._optimizer.update(shards, lr, updates)
        for names in self._buckets:
            wholes = {name: self._padded(self._split[name][1]) for name in names}
            self._total.add(wholes)
            for name, whole in wholes.items():
                self._assign(self._split[name][0], whole)

    def _mine(self, name: str, gradient: Tensor) -> Tensor:
        """Return this replica's rows of a gradient, or all of one that is not sharded."""
        if not is_split(name, gradient.shape, self._group):
            return gradient
        divided: tuple[Tensor, ...] = P.Split(0, self._group.size)(gradient)
        return divided[self._group.index]

    def _padded(self, shard: Tensor) -> Tensor:
        """Pad this replica's rows with zeros for the others': a sum with zeros is exact."""
        group, (count, *trailing) = self._group, shard.shape
        before = np.zeros((group.index * count, *trailing), np.float32)
        after = np.zeros(((group.size - 1 - group.index) * count, *trailing), np.float32)
        pieces = [Tensor(before), shard, Tensor(after)]
        return self._concat([piece for piece in pieces if piece.shape[0]])


def local_shards(trained: dict[str, Parameter], group: ProcessGroup) -> dict[str, Parameter]:
    """Return this replica's shards: rows of each parameter, or all of an indivisible one."""
    shards = {}
    for name, weight in trained.items():
        shards[name] = weight
        if is_split(name, weight.shape, group):
            value = Tensor(rows_of(weight.asnumpy(), group))
            shards[name] = Parameter(value, name=f"part.{name}", requires_grad=False)
    return shards


def is_split(name: str, shape: tuple[int, ...], group: ProcessGroup) -> bool:
    """Return whether the replicas shard a parameter's update by rows."""
    return has_equal_rows(shape_by_rows(name, shape), group.size)


def rows_of(array: np.ndarray, group: ProcessGroup) -> np.ndarray:
    """Copy this replica's rows of an array."""
    count = array.shape[0] // group.size
    return np.array(array[group.index * count : (group.index + 1) * count], order="C")
