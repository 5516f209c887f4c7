"""An optimizer step in parts: gradients are summed, over micro-batches and ranks, then applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn

from gpt2dsl.layout.split import Split, has_equal_rows
from gpt2dsl.layout.tensors import TABLE
from gpt2dsl.model.operators.norm import SumOfSquares
from gpt2dsl.model.optimizers import Optimizer
from gpt2dsl.model.shard import Copies, Shard, Stages

if TYPE_CHECKING:
    from gpt2dsl.model.training import MicroBatch

BUCKET = 2**23
"""Elements that are exchanged at once, where one tensor does not have more: 32 MB."""


class ScaledLoss(nn.Cell):
    """A loss times a scale, which its gradients get."""

    def __init__(self, objective: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.objective = objective

    def construct(self, scale: Tensor, ids: Tensor, labels: Tensor, *kept: Tensor) -> Tensor:
        """``[], [b, t], [b, t] → []``."""
        return self.objective(ids, labels, *kept) * scale


class Sums:
    """Sums of gradients.

    Attributes:
        names: of the parameters.
        weights: the parameters.
        values: a sum for each.
    """

    def __init__(self, trained: Mapping[str, Parameter]) -> None:
        self.names = tuple(trained)
        self.weights = ParameterTuple(list(trained.values()))
        self.values = ParameterTuple([_sum_of(weight) for weight in self.weights])

    def forget(self) -> None:
        """Begin anew."""
        for total in self.values:
            total.set_data(Tensor(np.zeros(total.shape, np.float32)))


class Accumulate(nn.Cell):
    """A micro-batch: its gradients are added to sums."""

    def __init__(self, objective: nn.Cell, sums: Sums) -> None:
        super().__init__(auto_prefix=False)
        self.loss_and_gradients = ms.value_and_grad(ScaledLoss(objective), None, sums.weights)
        self.sums, self.add = sums.values, P.AssignAdd()

    def construct(self, scale: Tensor, ids: Tensor, labels: Tensor, *kept: Tensor) -> Tensor:
        """``[], [b, t], [b, t] → loss times scale []``."""
        loss, gradients = self.loss_and_gradients(scale, ids, labels, *kept)
        for i, gradient in enumerate(gradients):
            self.add(self.sums[i], gradient)
        return loss


class MicroBatches:
    """Micro-batches through the whole network, one after the other."""

    def __init__(self, objective: nn.Cell, sums: Sums) -> None:
        self._accumulate = Accumulate(objective, sums)

    def run(self, batch: Iterable[MicroBatch], scale: Tensor) -> float:
        """Sum the gradients of a batch; its loss times the scale."""
        return sum(float(self._accumulate(scale, *part.tensors).asnumpy()) for part in batch)


class Exchange:
    """The sums and the loss of all ranks: of both ends of a pipeline, then of all copies."""

    def __init__(self, sums: Sums, copies: Copies, stages: Stages) -> None:
        named = dict(zip(sums.names, sums.values, strict=True))
        tied = [named[TABLE]] if TABLE in named else []
        self._cells: list[nn.Cell] = []
        if stages.ends and tied:
            self._cells.append(Total(ParameterTuple(tied), stages.ends))
        if copies.dp > 1:
            self._cells.append(Total(sums.values, copies.group))
        groups = [group for group in (copies.group, stages.group) if group]
        self._sums = [P.AllReduce(group=group) for group in groups]

    def run(self, loss: float) -> float:
        """Add what the others have; the sum of their losses."""
        for cell in self._cells:
            cell().asnumpy()
        total = Tensor(np.array([loss], np.float32))
        for add in self._sums:
            total = add(total)
        return float(total.asnumpy()[0])


class Total(nn.Cell):
    """The sums of a group of ranks, in buckets: a few large exchanges, not many small ones."""

    def __init__(self, sums: ParameterTuple, group: str) -> None:
        super().__init__(auto_prefix=False)
        self.sums = sums
        self.buckets = buckets([value.size for value in sums])
        self.sum = P.AllReduce(group=group)
        self.concat, self.assign = P.Concat(0), P.Assign()

    def construct(self) -> Tensor:
        """Changes the sums; what it gives says that it is done."""
        total = Tensor(0.0, ms.float32)
        for first, last in self.buckets:
            flat: tuple[Tensor, ...] = ()
            for i in range(first, last):
                flat = (*flat, self.sums[i].reshape((-1,)))
            total, at = self.sum(self.concat(flat)), 0
            for i in range(first, last):
                value = self.sums[i]
                self.assign(value, total[at : at + value.size].reshape(value.shape))
                at += value.size
        return total


class Norm(nn.Cell):
    """The norm of the sums, each counted once: parts of what ranks share are added, and stages.

    Args:
        sums: of the gradients.
        splits: how each is cut over the ranks that share layers.
        shard: those ranks.
        stages: of the pipeline.
    """

    def __init__(
        self, sums: Sums, splits: Mapping[str, Split], shard: Shard, stages: Stages
    ) -> None:
        super().__init__(auto_prefix=False)
        self.sums = sums.values
        is_cut = [shard.mp > 1 and splits[name].axis is not None for name in sums.names]
        counts = [name != TABLE or stages.is_first for name in sums.names]
        both = list(enumerate(zip(is_cut, counts, strict=True)))
        self.whole = tuple(i for i, (cut, counted) in both if counted and not cut)
        self.cut = tuple(i for i, (cut, counted) in both if counted and cut)
        self.is_cut, self.is_staged = shard.mp > 1, stages.pp > 1
        self.sum_of_squares, self.sqrt = SumOfSquares(), P.Sqrt()
        if self.is_cut:
            self.sum_of_parts = P.AllReduce(group=shard.group)
        if self.is_staged:
            self.sum_of_stages = P.AllReduce(group=stages.group)

    def construct(self) -> Tensor:
        """``→ []``."""
        squares = self.squares(self.whole)
        if self.is_cut:
            squares = squares + self.sum_of_parts(self.squares(self.cut))
        if self.is_staged:
            squares = self.sum_of_stages(squares)
        return self.sqrt(squares)

    def squares(self, some: tuple[int, ...]) -> Tensor:
        """The sum of squares of some of them, ``[]``."""
        total = Tensor(0.0, ms.float32)
        for i in some:
            total = total + self.sum_of_squares.of_one(self.sums[i])
        return total


class Apply(nn.Cell):
    """An update from the sums, which begin anew."""

    def __init__(self, sums: Sums, optimizer: Optimizer) -> None:
        super().__init__(auto_prefix=False)
        self.sums, self.optimizer = sums.values, optimizer
        self.subtract = P.AssignSub()

    def construct(self, factor: Tensor, lr: Tensor, power1: Tensor, power2: Tensor) -> Tensor:
        """``[], [], [], [] → []``."""
        self.optimizer(scaled(self.sums, factor), lr, power1, power2)
        for total in self.sums:
            self.subtract(total, total)
        return factor


class ShardedApply(nn.Cell):
    """An update of which each copy does a part, and then has all (ZeRO-1, Rajbhandari et al. 2020).

    Args:
        sums: of the gradients.
        optimizer: of the parts that this copy updates, as ``parts`` makes them.
        copies: that do the others.
    """

    def __init__(self, sums: Sums, optimizer: Optimizer, copies: Copies) -> None:
        super().__init__(auto_prefix=False)
        self.sums, self.weights, self.optimizer = sums.values, sums.weights, optimizer
        self.parts = optimizer.weights
        self.index, self.others = copies.index, copies.dp - 1 - copies.index
        self.split = tuple(
            i for i, weight in enumerate(sums.weights) if is_split(weight.shape, copies)
        )
        self.buckets = buckets([sums.weights[i].size for i in self.split])
        self.subtract, self.assign = P.AssignSub(), P.Assign()
        self.concat, self.zeros = P.Concat(0), P.Zeros()
        self.sum = P.AllReduce(group=copies.group)

    def construct(self, factor: Tensor, lr: Tensor, power1: Tensor, power2: Tensor) -> Tensor:
        """``[], [], [], [] → []``."""
        gradients: tuple[Tensor, ...] = ()
        for i, total in enumerate(self.sums):
            rows = self.parts[i].shape[0]
            mine = total[self.index * rows : (self.index + 1) * rows] if i in self.split else total
            gradients = (*gradients, mine * factor)
        self.optimizer(gradients, lr, power1, power2)
        for first, last in self.buckets:
            self.gather(first, last)
        for total in self.sums:
            self.subtract(total, total)
        return factor

    def gather(self, first: int, last: int) -> None:
        """All copies' parts of some parameters; a sum with zeros is exact."""
        flat: tuple[Tensor, ...] = ()
        for i in self.split[first:last]:
            part = self.parts[i]
            before = self.zeros((self.index * part.size,), ms.float32)
            after = self.zeros((self.others * part.size,), ms.float32)
            flat = (*flat, before, part.reshape((-1,)), after)
        total, at = self.sum(self.concat(flat)), 0
        for i in self.split[first:last]:
            weight = self.weights[i]
            self.assign(weight, total[at : at + weight.size].reshape(weight.shape))
            at += weight.size


def parts(trained: dict[str, Parameter], copies: Copies) -> dict[str, Parameter]:
    """What this copy updates: rows of each parameter, or all of one that can't be divided."""
    found = {}
    for name, weight in trained.items():
        found[name] = weight
        if is_split(weight.shape, copies):
            value = Tensor(rows_of(weight.asnumpy(), copies))
            found[name] = Parameter(value, name=f"part.{name}", requires_grad=False)
    return found


def is_split(shape: tuple[int, ...], copies: Copies) -> bool:
    """Whether each copy updates some rows of a parameter."""
    return copies.shards_state and has_equal_rows(shape, copies.dp)


def rows_of(array: np.ndarray, copies: Copies) -> np.ndarray:
    """This copy's rows of an array, a copy of them."""
    rows = array.shape[0] // copies.dp
    return np.array(array[copies.index * rows : (copies.index + 1) * rows], order="C")


def buckets(sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Ranges of what is exchanged together: up to ``BUCKET`` elements, or one larger tensor."""
    found, first, total = [], 0, 0
    for i, size in enumerate(sizes):
        if i > first and total + size > BUCKET:
            found.append((first, i))
            first, total = i, 0
        total += size
    return (*found, (first, len(sizes))) if sizes else ()


def scaled(gradients: tuple[Tensor, ...], factor: Tensor) -> tuple[Tensor, ...]:
    """Each gradient times a factor."""
    found: tuple[Tensor, ...] = ()
    for gradient in gradients:
        found = (*found, gradient * factor)
    return found


def _sum_of(weight: Parameter) -> Parameter:
    zeros = Tensor(np.zeros(weight.shape, np.float32))
    return Parameter(zeros, name=f"sum.{weight.name}", requires_grad=False)
