"""Initialisation of MindSpore's process groups, and small collectives on Python values."""

from __future__ import annotations

import pickle
from typing import Any

import attrs
import mindspore.ops.operations as P  # as in gpt2dsl/model
import numpy as np
from mindspore import Tensor, communication

from gpt2dsl.backend import device
from gpt2dsl.distributed.process_groups import (
    NO_DATA_PARALLEL,
    NO_PIPELINE,
    NO_TENSOR_PARALLEL,
    PipelineGroup,
    ProcessGroup,
    TensorParallelGroup,
)
from gpt2dsl.layout.parallel_dims import ParallelDims

LONGEST = 255
"""Bytes of the longest text that crosses: a file's name."""


@attrs.frozen
class ParallelContext:
    """Process groups of a job, as seen from one rank.

    Attributes:
        dims: sizes of the parallel dimensions.
        rank: index of this rank.
        tensor_group: the ranks that share its layers.
        data_group: the replicas of its parameters, each with its own rows.
        pipeline_group: its pipeline.
    """

    dims: ParallelDims = attrs.field(factory=ParallelDims)
    rank: int = 0
    tensor_group: TensorParallelGroup = NO_TENSOR_PARALLEL
    data_group: ProcessGroup = NO_DATA_PARALLEL
    pipeline_group: PipelineGroup = NO_PIPELINE

    @property
    def is_main_process(self) -> bool:
        """Whether this rank logs and writes files for the job."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether the job has one rank."""
        return self.dims.count == 1

    def all_gather(self, *numbers: float) -> list[tuple[float, ...]]:
        """All-gather numbers from every rank (collective).

        Each crosses as two float32, the second the rounding error of the first: 48 bits.
        """
        if self.is_alone:
            return [numbers]
        exact = np.array(numbers, np.float64)
        high = exact.astype(np.float32)
        table = np.zeros((self.dims.count, 2, len(numbers)), np.float32)
        table[self.rank] = high, (exact - high).astype(np.float32)
        every = P.AllReduce()(Tensor(table)).asnumpy().astype(np.float64).sum(1)
        return [tuple(row) for row in every.tolist()]

    def any(self, mine: bool) -> bool:
        """Return whether the flag is true on any rank (collective)."""
        return any(flag for (flag,) in self.all_gather(float(mine)))

    def barrier(self) -> None:
        """Block until all ranks arrive."""
        self.any(mine=False)

    def from_main(self, text: str) -> str:
        """Return the main process's text, of at most ``LONGEST`` bytes (collective)."""
        if self.is_alone:
            return text
        codes = np.zeros(LONGEST, np.float32)
        if self.is_main_process:
            data = np.frombuffer(text.encode(), np.uint8)
            codes[: len(data)] = data
        every = P.AllReduce()(Tensor(codes)).asnumpy().astype(np.uint8)
        return every.tobytes().rstrip(b"\0").decode()

    def gather_from_replicas(self, mine: Any) -> list[Any]:
        """All-gather picklable objects over the data parallel replicas (collective)."""
        group = self.data_group
        if group.size == 1:
            return [mine]
        data = np.frombuffer(pickle.dumps(mine), np.uint8)
        sizes = [int(size) for (size,) in self.all_gather(len(data))]
        table = np.zeros((group.size, max(sizes)), np.float32)
        table[group.index, : len(data)] = data
        every = P.AllReduce(group=group.name)(Tensor(table)).asnumpy().astype(np.uint8)
        return [pickle.loads(row.tobytes()) for row in every]  # noqa: S301  # sent by our own ranks


def join(
    dims: ParallelDims, rank: int, on: str, *, sequence_parallel: bool = False
) -> ParallelContext:
    """Join the other ranks; return when all have joined.

    Args:
        dims: sizes of the parallel dimensions.
        rank: this process's rank, also passed to MindSpore by the launcher.
        on: the device.
        sequence_parallel: whether tensor parallel ranks split tokens outside the shared layers.

    Raises:
        RuntimeError: MindSpore could not reach the other ranks.
    """
    device.use(on)
    communication.init()
    here = dims.coordinates(rank)
    tensor_ranks, data_ranks = dims.tensor_parallel_ranks(rank), dims.data_parallel_ranks(rank)
    return ParallelContext(
        dims,
        rank,
        TensorParallelGroup(dims.mp, here.shard, _create("mp", tensor_ranks), sequence_parallel),
        ProcessGroup(dims.dp, here.replica, _create("dp", data_ranks)),
        _pipeline_group(dims.pipeline_ranks(rank), here.stage),
    )


def _pipeline_group(ranks: tuple[int, ...], stage: int) -> PipelineGroup:
    last = len(ranks) - 1
    if last == 0:
        return NO_PIPELINE
    return PipelineGroup(
        len(ranks),
        stage,
        name=_create("pp", ranks),
        previous=_create("pipe", ranks[stage - 1 : stage + 1]) if stage else "",
        next=_create("pipe", ranks[stage : stage + 2]) if stage < last else "",
        tied_embedding=_create("ends", (ranks[0], ranks[-1])) if stage in {0, last} else "",
    )


def _create(kind: str, ranks: tuple[int, ...]) -> str:
    """Create a group in MindSpore and return its name; "" for a single rank."""
    if len(ranks) == 1:
        return ""
    name = f"{kind}-{'-'.join(map(str, ranks))}"
    communication.create_group(name, list(ranks))
    return name
