"""Tensor and sequence parallel collectives with their gradients.

The gradient of MindSpore's AllReduce is another AllReduce, which would count each gradient once
a rank.
"""

from __future__ import annotations

from typing import Any

import mindspore.ops.operations as P
from mindspore import Tensor, nn

from gpt2dsl.distributed.process_groups import TensorParallelGroup


def copy_to_tensor_parallel_region(group: TensorParallelGroup) -> nn.Cell:
    """Return the entry of a tensor parallel region: identity, all-reduced gradient.

    This is Megatron's f.
    """
    if group.sequence_parallel:
        return _GatherReduceScatter(group)
    return all_reduce_grad(group)


def reduce_from_tensor_parallel_region(group: TensorParallelGroup) -> nn.Cell:
    """Return the exit of a tensor parallel region: all-reduce, identity gradient.

    This is Megatron's g.
    """
    if group.sequence_parallel:
        return _ReduceScatterGather(group)
    return _AllReduce(group.name) if group.size > 1 else nn.Identity()


def all_reduce_grad(group: TensorParallelGroup) -> nn.Cell:
    """Return an identity that all-reduces the gradient, for replicated weights."""
    return _AllReduceGrad(group.name) if group.size > 1 else nn.Identity()


def all_reduce_sequence_grad(group: TensorParallelGroup) -> nn.Cell:
    """Return ``all_reduce_grad`` under sequence parallelism, where each rank sees some tokens."""
    return all_reduce_grad(group) if group.sequence_parallel else nn.Identity()


def scatter_sequence(group: TensorParallelGroup) -> nn.Cell:
    """Return the split of replicated rows into this rank's, under sequence parallelism."""
    return _ScatterGather(group) if group.sequence_parallel else nn.Identity()


def gather_sequence(group: TensorParallelGroup) -> nn.Cell:
    """Return the all-gather of rows, after which all ranks compute the same."""
    return _GatherScatter(group) if group.sequence_parallel else nn.Identity()


class _AllReduceGrad(nn.Cell):
    def __init__(self, group: str) -> None:
        super().__init__(auto_prefix=False)
        self.sum = P.AllReduce(group=group)

    def construct(self, x: Tensor) -> Tensor:
        return x

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        return (self.sum(dout),)


class _AllReduce(nn.Cell):
    def __init__(self, group: str) -> None:
        super().__init__(auto_prefix=False)
        self.sum = P.AllReduce(group=group)

    def construct(self, x: Tensor) -> Tensor:
        return self.sum(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        return (dout,)


class _SequenceRegion(nn.Cell):
    """Base of sequence parallel collectives (Korthikanti et al. 2022); rows are sharded."""

    def __init__(self, group: TensorParallelGroup) -> None:
        super().__init__(auto_prefix=False)
        self.size, self.index = group.size, group.index
        self.sum, self.joined = P.AllReduce(group=group.name), AllGather(group, 0)

    def mine(self, x: Tensor) -> Tensor:
        """Return this rank's rows: ``[rows, ..] → [rows / mp, ..]``."""
        count = x.shape[0] // self.size
        return x[self.index * count : (self.index + 1) * count]


class _GatherReduceScatter(_SequenceRegion):
    def construct(self, x: Tensor) -> Tensor:
        return self.joined(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        return (self.mine(self.sum(dout)),)


class _ReduceScatterGather(_SequenceRegion):
    def construct(self, x: Tensor) -> Tensor:
        return self.mine(self.sum(x))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        return (self.joined(dout),)


class _ScatterGather(_SequenceRegion):
    def construct(self, x: Tensor) -> Tensor:
        return self.mine(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        return (self.joined(dout),)


class _GatherScatter(_SequenceRegion):
    def construct(self, x: Tensor) -> Tensor:
        return self.joined(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        return (self.mine(dout),)


class AllGather(nn.Cell):
    """All-gather along an axis, without a gradient.

    Why: MindSpore's CPU AllGather only supports the world group; an all-reduce with zeros is exact.
    """

    def __init__(self, group: TensorParallelGroup, axis: int) -> None:
        super().__init__(auto_prefix=False)
        self.before, self.after = group.index, group.size - 1 - group.index
        self.concat, self.zeros_like = P.Concat(axis), P.ZerosLike()
        self.sum = P.AllReduce(group=group.name)

    def construct(self, x: Tensor) -> Tensor:
        """``[.., n, ..] → [.., mp n, ..]``."""
        zeros = self.zeros_like(x)
        return self.sum(self.concat((zeros,) * self.before + (x,) + (zeros,) * self.after))


def local_vocab_ids(ids: Any, first: int, count: int) -> tuple[Any, Any]:
    """Return ids relative to this rank's vocabulary rows, and 1 or 0 for whether they are inside.

    Ids of other ranks become 0. Both a tensor and a NumPy array are accepted.
    """
    local = ids - first
    inside = (local >= 0) & (local < count)
    return local * inside, inside.astype("float32")
