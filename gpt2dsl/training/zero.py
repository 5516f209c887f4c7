"""Sharded optimizer updates (ZeRO-1): partition of the parameters, update, gather."""

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
    """Interface of ``Optimizer`` and ``ZeroOptimizer``."""

    def update(self, gradients: Sequence[Tensor], lr: float, updates: int) -> None:
        """Update the parameters, as ``Optimizer.update``."""


class ZeroOptimizer:
    """ZeRO-1 (Rajbhandari et al. 2020): each replica updates a shard, then all gather the weights.

    Args:
        weights: all parameters, unsharded.
        optimizer: optimizer of this replica's shards, as returned by ``parts``.
        copies: the data parallel group.
    """

    def __init__(
        self, weights: Sequence[Parameter], optimizer: Optimizer, copies: DataParallelGroup
    ) -> None:
        self._optimizer, self._copies = optimizer, copies
        pairs = zip(weights, optimizer.weights, strict=True)
        self._split = {weight.name: (weight, part) for weight, part in pairs if part is not weight}
        self._buckets = buckets({name: weight.shape for name, (weight, _) in self._split.items()})
        self._total, self._assign, self._concat = (
            BucketedAllReduce(copies.group),
            P.Assign(),
            P.Concat(0),
        )

    def update(self, gradients: Sequence[Tensor], lr: float, updates: int) -> None:
        """Update this replica's rows and gather those of the others."""
        shards = [self._mine(gradient) for gradient in gradients]
        self._optimizer.update(shards, lr, updates)
        for names in self._buckets:
            wholes = {name: self._padded(self._split[name][1]) for name in names}
            self._total.add(wholes)
            for name, whole in wholes.items():
                self._assign(self._split[name][0], whole)

    def _mine(self, gradient: Tensor) -> Tensor:
        """Return this replica's rows of a gradient, or all of one that is not sharded."""
        if not is_split(gradient.shape, self._copies):
            return gradient
        divided: tuple[Tensor, ...] = P.Split(0, self._copies.dp)(gradient)
        return divided[self._copies.index]

    def _padded(self, part: Tensor) -> Tensor:
        """Pad this replica's rows with zeros for the others': a sum with zeros is exact."""
        copies, (count, *trailing) = self._copies, part.shape
        before = np.zeros((copies.index * count, *trailing), np.float32)
        after = np.zeros(((copies.dp - 1 - copies.index) * count, *trailing), np.float32)
        pieces = [Tensor(before), part, Tensor(after)]
        return self._concat([piece for piece in pieces if piece.shape[0]])


def parts(trained: dict[str, Parameter], copies: DataParallelGroup) -> dict[str, Parameter]:
    """Return this replica's shards: rows of each parameter, or all of an indivisible one."""
    shards = {}
    for name, weight in trained.items():
        shards[name] = weight
        if is_split(weight.shape, copies):
            value = Tensor(rows_of(weight.asnumpy(), copies))
            shards[name] = Parameter(value, name=f"part.{name}", requires_grad=False)
    return shards


def is_split(shape: tuple[int, ...], copies: DataParallelGroup) -> bool:
    """Return whether the replicas shard a parameter's update by rows."""
    return copies.shards_state and has_equal_rows(shape, copies.dp)


def rows_of(array: np.ndarray, copies: DataParallelGroup) -> np.ndarray:
    """Copy this replica's rows of an array."""
    count = array.shape[0] // copies.dp
    return np.array(array[copies.index * count : (copies.index + 1) * count], order="C")
