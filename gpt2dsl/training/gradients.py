"""The gradients of a step: summed over micro-batches and ranks, and their norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor

from gpt2dsl.backend.parameterized_cell import ParameterizedCell
from gpt2dsl.distributed.process_groups import DataParallelGroup, PipelineGroup, TensorParallelGroup
from gpt2dsl.layout.params import WTE, by_layer
from gpt2dsl.layout.shard_spec import ShardSpec

ALLREDUCE_BUCKET = 2**23
"""Elements that are exchanged at once, where one tensor does not have more: 32 MB."""

SQUARED = 2**21
"""Elements that are squared at once: 8 MB, which stay in the processor's cache."""


class Gradients:
    """Sums of gradients, by the name of the parameter."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self._add, self._add_rows = P.AssignAdd(), P.ScatterAdd()

    def add_all(self, names: Iterable[str], values: Iterable[Tensor]) -> None:
        """Add a micro-batch's. The first become the sums, to which others are added in place."""
        for name, value in zip(names, values, strict=True):
            if name in self.sums:
                self._add(self.sums[name], value)
            else:
                self.sums[name] = value

    def add_rows(self, name: str, shape: Sequence[int], rows: Tensor, values: Tensor) -> None:
        """Add to rows of a table: ``[rows], [rows, h]``."""
        if name not in self.sums:
            self.sums[name] = Tensor(np.zeros(shape, np.float32))
        self._add_rows(self.sums[name], rows, values)


class GradientAllReduce:
    """The sums and the loss of all ranks: of both ends of a pipeline, then of all copies.

    Args:
        copies: the ranks that compute the other rows of a batch.
        stages: of the pipeline.
        ties: whether both ends hold the word table.
    """

    def __init__(
        self, copies: DataParallelGroup, stages: PipelineGroup, *, ties: bool = True
    ) -> None:
        self._of_ends = BucketedAllReduce(stages.ends) if stages.ends and ties else None
        self._of_copies = BucketedAllReduce(copies.group) if copies.dp > 1 else None
        groups = [group for group in (copies.group, stages.group) if group]
        self._sums = [P.AllReduce(group=group) for group in groups]

    def run(self, sums: dict[str, Tensor], loss: float) -> float:
        """Add what the others have to the sums; the sum of the losses."""
        if self._of_ends and WTE in sums:
            tied = {WTE: sums.pop(WTE)}
            self._of_ends.add(tied)
            sums |= tied
        if self._of_copies:
            self._of_copies.add(sums)
        total = Tensor(np.array([loss], np.float32))
        for add in self._sums:
            total = add(total)
        return float(total.asnumpy()[0])


class BucketedAllReduce:
    """Sums over a group of ranks, in buckets: a few large exchanges, not many small ones.

    Tensors of one width are laid under each other. Outside of a graph MindSpore 2.10 complains of
    NumPy 2 where it reshapes or slices.
    """

    def __init__(self, group: str) -> None:
        self._sum = P.AllReduce(group=group)
        self._concat, self._gather = P.Concat(0), P.Gather()

    def add(self, values: dict[str, Tensor]) -> None:
        """Put sums in place of values; all ranks name the same ones."""
        for names in buckets({name: value.shape for name, value in values.items()}):
            some = [values.pop(name) for name in names]
            total = self._sum(self._concat(some) if len(some) > 1 else some[0])
            at = 0
            for name, value in zip(names, some, strict=True):
                rows = np.arange(at, at + value.shape[0], dtype=np.int32)
                values[name] = self._gather(total, Tensor(rows), 0) if len(some) > 1 else total
                at += len(rows)


class GlobalGradNorm:
    """The norm of gradients, each counted once: parts of what ranks share are added, and stages.

    Args:
        splits: how each is cut over the ranks that share layers.
        shard: those ranks.
        stages: of the pipeline.
    """

    def __init__(
        self, splits: Mapping[str, ShardSpec], shard: TensorParallelGroup, stages: PipelineGroup
    ) -> None:
        self._splits, self._is_cut, self._is_first = splits, shard.mp > 1, stages.is_first
        self._squares = SumOfSquares()
        self._of_parts = P.AllReduce(group=shard.group) if shard.mp > 1 else None
        self._of_stages = P.AllReduce(group=stages.group) if stages.pp > 1 else None

    def of(self, sums: Mapping[str, Tensor]) -> float:
        """Return the square root of the sum of all squares."""
        # what both ends of a pipeline hold is counted by the first
        counted = [name for name in sums if name != WTE or self._is_first]
        cut = [name for name in counted if self._is_cut and self._splits[name].axis is not None]
        whole = [name for name in counted if name not in cut]
        total = self._of(sums, whole)
        if self._of_parts:
            total += _over(self._of_parts, self._of(sums, cut))
        if self._of_stages:
            total = _over(self._of_stages, total)
        return math.sqrt(total) if total >= 0 else math.nan

    def _of(self, sums: Mapping[str, Tensor], names: Sequence[str]) -> float:
        """Return the sum of squares of some of them."""
        found = [self._squares(*(sums[names[i]] for i in layer)) for layer in by_layer(names)]
        return sum(float(squares.asnumpy()) for squares in found)


class SumOfSquares(ParameterizedCell):
    """The sum of the squares of all elements of several tensors.

    Row by row, then of the rows' sums: in one sum of 38 million squares float32 loses three digits.
    Some rows at a time: the squares of a whole word table would be a copy of it.
    Why with ReduceSum: a batch of products of rows with themselves takes 8 times as long.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.add = P.ReduceSum(), P.AddN()

    def pieces(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Some rows at a time."""
        count = tensor.shape[0]
        step = max(1, SQUARED // (tensor.size // count))
        if step >= count:
            return (tensor,)
        found: tuple[Tensor, ...] = ()
        for first in range(0, count, step):
            begin = (first,) + (0,) * (tensor.ndim - 1)
            size = (min(step, count - first), *tensor.shape[1:])
            found = (*found, self.slice(tensor, begin, size))
        return found

    def construct(self, *tensors: Tensor) -> Tensor:
        """``→ []``."""
        sums: tuple[Tensor, ...] = ()
        for tensor in tensors:
            for rows in self.pieces(tensor):
                sums = (*sums, self.reduce(self.reduce(rows * rows, -1)))
        return self.add(sums)


def _over(add: P.AllReduce, value: float) -> float:
    return float(add(Tensor(np.array([value], np.float32))).asnumpy()[0])


def buckets(shapes: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    """Group tensors of one width into buckets of ``ALLREDUCE_BUCKET`` elements, or one larger."""
    found: list[list[str]] = []
    for width in dict.fromkeys(shape[1:] for shape in shapes.values()):
        total = ALLREDUCE_BUCKET
        for name in (name for name, shape in shapes.items() if shape[1:] == width):
            size = math.prod(shapes[name])
            if total + size > ALLREDUCE_BUCKET:
                found.append([])
                total = 0
            found[-1].append(name)
            total += size
    return found
