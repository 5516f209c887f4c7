"""Gradients of a step: accumulation over micro-batches, all-reduce over ranks, global norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor

from gpt2dsl.backend.parameterized_cell import ParameterizedCell
from gpt2dsl.distributed.process_groups import PipelineGroup, ProcessGroup
from gpt2dsl.layout.params import WTE, by_layer
from gpt2dsl.layout.shard_spec import ShardSpec

ALLREDUCE_BUCKET = 2**23
"""Elements per all-reduce, unless one tensor is larger: 32 MB."""

SQUARED = 2**21
"""Elements squared at a time: 8 MB, which fit in the CPU cache."""


class Gradients:
    """Gradient accumulators, by parameter name."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self._add, self._add_rows = P.AssignAdd(), P.ScatterAdd()

    def add_all(self, names: Iterable[str], values: Iterable[Tensor]) -> None:
        """Add a micro-batch's gradients; the first become the accumulators, updated in place."""
        for name, value in zip(names, values, strict=True):
            if name in self.sums:
                self._add(self.sums[name], value)
            else:
                self.sums[name] = value

    def add_rows(self, name: str, shape: Sequence[int], rows: Tensor, values: Tensor) -> None:
        """Add gradients of table rows: ``[rows], [rows, h]``."""
        if name not in self.sums:
            self.sums[name] = Tensor(np.zeros(shape, np.float32))
        self._add_rows(self.sums[name], rows, values)


class GradientAllReduce:
    """All-reduce of gradients and loss: tied embeddings over the pipeline, then all over replicas.

    Args:
        data_group: the data parallel group.
        pipeline_group: the pipeline group.
        ties: whether the first and last stage tie the word table.
    """

    def __init__(
        self, data_group: ProcessGroup, pipeline_group: PipelineGroup, *, ties: bool = True
    ) -> None:
        tied = pipeline_group.tied_embedding if ties else ""
        self._tied = BucketedAllReduce(tied) if tied else None
        self._replicas = BucketedAllReduce(data_group.name) if data_group.size > 1 else None
        names = [group.name for group in (data_group, pipeline_group) if group.name]
        self._loss_sums = [P.AllReduce(group=name) for name in names]

    def run(self, sums: dict[str, Tensor], loss: float) -> float:
        """All-reduce gradients in ``sums``; return the summed loss."""
        if self._tied and WTE in sums:
            tied = {WTE: sums.pop(WTE)}
            self._tied.add(tied)
            sums |= tied
        if self._replicas:
            self._replicas.add(sums)
        total = Tensor(np.array([loss], np.float32))
        for add in self._loss_sums:
            total = add(total)
        return float(total.asnumpy()[0])


class BucketedAllReduce:
    """All-reduce over a group of ranks in buckets: a few large messages, not many small ones.

    Tensors of one width are concatenated by rows. No reshapes or slices: outside a graph MindSpore
    2.10 warns about NumPy 2 there.
    """

    def __init__(self, group: str) -> None:
        self._sum = P.AllReduce(group=group)
        self._concat, self._gather = P.Concat(0), P.Gather()

    def add(self, values: dict[str, Tensor]) -> None:
        """Replace values by their sums over the group; all ranks must pass the same names."""
        for names in buckets({name: value.shape for name, value in values.items()}):
            tensors = [values.pop(name) for name in names]
            total = self._sum(self._concat(tensors) if len(tensors) > 1 else tensors[0])
            start = 0
            for name, value in zip(names, tensors, strict=True):
                rows = np.arange(start, start + value.shape[0], dtype=np.int32)
                values[name] = self._gather(total, Tensor(rows), 0) if len(tensors) > 1 else total
                start += len(rows)


class GlobalGradNorm:
    """Global gradient norm over all ranks, each element counted once.

    Args:
        specs: tensor parallel sharding of each parameter.
        tensor_group: the tensor parallel group.
        pipeline_group: the pipeline group.
    """

    def __init__(
        self,
        specs: Mapping[str, ShardSpec],
        tensor_group: ProcessGroup,
        pipeline_group: ProcessGroup,
    ) -> None:
        self._specs, self._squares = specs, SumOfSquares()
        self._is_first, self._is_sharded = pipeline_group.is_first, tensor_group.size > 1
        self._over_shards = P.AllReduce(group=tensor_group.name) if self._is_sharded else None
        has_stages = pipeline_group.size > 1
        self._over_stages = P.AllReduce(group=pipeline_group.name) if has_stages else None

    def of(self, sums: Mapping[str, Tensor]) -> float:
        """Return the global L2 norm; NaN if the sum of squares is not a number."""
        # the first stage counts the word table that it ties with the last
        counted = [name for name in sums if name != WTE or self._is_first]
        is_sharded, specs = self._is_sharded, self._specs
        sharded = [name for name in counted if is_sharded and specs[name].axis is not None]
        total = self._of(sums, [name for name in counted if name not in sharded])
        if self._over_shards:
            total += _over(self._over_shards, self._of(sums, sharded))
        if self._over_stages:
            total = _over(self._over_stages, total)
        return math.sqrt(total) if total >= 0 else math.nan

    def _of(self, sums: Mapping[str, Tensor], names: Sequence[str]) -> float:
        """Return the sum of squares of the named gradients."""
        layer_squares = [
            self._squares(*(sums[names[i]] for i in layer)) for layer in by_layer(names)
        ]
        return sum(float(squares.asnumpy()) for squares in layer_squares)


class SumOfSquares(ParameterizedCell):
    """Sum of squares over all elements of several tensors.

    Rows are summed first, then their sums: one float32 sum of 38 million squares would lose three
    digits.
    Rows are taken in pieces: squaring a whole word table at once would take a copy of it.
    Why ReduceSum: a batched product of rows with themselves takes 8 times as long.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.add = P.ReduceSum(), P.AddN()

    def pieces(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Split a tensor into pieces of at most ``SQUARED`` elements, by rows."""
        count = tensor.shape[0]
        step = max(1, SQUARED // (tensor.size // count))
        if step >= count:
            return (tensor,)
        row_blocks: tuple[Tensor, ...] = ()
        for first in range(0, count, step):
            begin = (first,) + (0,) * (tensor.ndim - 1)
            size = (min(step, count - first), *tensor.shape[1:])
            row_blocks = (*row_blocks, self.slice(tensor, begin, size))
        return row_blocks

    def construct(self, *tensors: Tensor) -> Tensor:
        """Return the sum of squares, ``[]``."""
        sums: tuple[Tensor, ...] = ()
        for tensor in tensors:
            for rows in self.pieces(tensor):
                sums = (*sums, self.reduce(self.reduce(rows * rows, -1)))
        return self.add(sums)


def _over(add: P.AllReduce, value: float) -> float:
    return float(add(Tensor(np.array([value], np.float32))).asnumpy()[0])


def buckets(shapes: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    """Group tensors of one width into buckets of at most ``ALLREDUCE_BUCKET`` elements.

    A larger tensor has a bucket of its own.
    """
    groups: list[list[str]] = []
    for width in dict.fromkeys(shape[1:] for shape in shapes.values()):
        total = ALLREDUCE_BUCKET
        for name in (name for name, shape in shapes.items() if shape[1:] == width):
            size = math.prod(shapes[name])
            if total + size > ALLREDUCE_BUCKET:
                groups.append([])
                total = 0
            groups[-1].append(name)
            total += size
    return groups
