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
    DataParallelGroup,
    PipelineGroup,
    TensorParallelGroup,
)
from gpt2dsl.layout.parallel_dims import ParallelDims


@attrs.frozen
class ParallelContext:
    """Process groups of a job, as seen from one rank.

    Attributes:
        ranks: sizes of the parallel dimensions.
        rank: index of this rank.
        shard: its tensor parallel group.
        copies: its data parallel group.
        stages: its pipeline group.
    """

    ranks: ParallelDims = attrs.field(factory=ParallelDims)
    rank: int = 0
    shard: TensorParallelGroup = NO_TENSOR_PARALLEL
    copies: DataParallelGroup = NO_DATA_PARALLEL
    stages: PipelineGroup = NO_PIPELINE

    @property
    def is_main_process(self) -> bool:
        """Whether this rank logs and writes files for the job."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether the job has one rank."""
        return self.ranks.count == 1

    def gathered(self, *numbers: float) -> list[tuple[float, ...]]:
        """All-gather numbers from every rank (collective).

        Each crosses as two float32, the second the rounding error of the first: 48 bits.
        """
        if self.is_alone:
            return [numbers]
        exact = np.array(numbers, np.float64)
        high = exact.astype(np.float32)
        table = np.zeros((self.ranks.count, 2, len(numbers)), np.float32)
        table[self.rank] = high, (exact - high).astype(np.float32)
        every = P.AllReduce()(Tensor(table)).asnumpy().astype(np.float64).sum(1)
        return [tuple(row) for row in every.tolist()]

    def any(self, mine: bool) -> bool:
        """Return whether the flag is true on any rank (collective)."""
        return any(flag for (flag,) in self.gathered(float(mine)))

    def wait(self) -> None:
        """Block until all ranks arrive (barrier)."""
        self.any(mine=False)

    def of_copies(self, mine: Any) -> list[Any]:
        """All-gather picklable objects over the data parallel replicas (collective)."""
        if self.copies.dp == 1:
            return [mine]
        data = np.frombuffer(pickle.dumps(mine), np.uint8)
        sizes = [int(size) for (size,) in self.gathered(len(data))]
        table = np.zeros((self.copies.dp, max(sizes)), np.float32)
        table[self.copies.index, : len(data)] = data
        every = P.AllReduce(group=self.copies.group)(Tensor(table)).asnumpy().astype(np.uint8)
        return [pickle.loads(row.tobytes()) for row in every]  # noqa: S301  # sent by our own ranks


def join(
    ranks: ParallelDims, rank: int, on: str, *, shards_state: bool = False, sequence: bool = False
) -> ParallelContext:
    """Join the other ranks; return when all have joined.

    Args:
        ranks: sizes of the parallel dimensions.
        rank: this process's rank, also passed to MindSpore by the launcher.
        on: the device.
        shards_state: whether replicas shard the optimizer state (ZeRO-1).
        sequence: whether tensor parallel ranks split tokens outside the shared layers (sequence
            parallelism).

    Raises:
        RuntimeError: MindSpore could not reach the other ranks.
    """
    device.use(on)
    communication.init()
    place = ranks.place(rank)
    sharing, copies = ranks.sharing(rank), ranks.copies(rank)
    return ParallelContext(
        ranks,
        rank,
        TensorParallelGroup(ranks.mp, place.shard, _group("mp", sharing), sequence),
        DataParallelGroup(ranks.dp, place.copy, _group("dp", copies), shards_state),
        _stages(ranks.stages(rank), place.stage),
    )


def _stages(members: tuple[int, ...], index: int) -> PipelineGroup:
    """Return the pipeline group of a stage."""
    pp = len(members)
    if pp == 1:
        return NO_PIPELINE
    return PipelineGroup(
        pp,
        index,
        group=_group("pp", members),
        before=_group("pipe", members[index - 1 : index + 1]) if index else "",
        after=_group("pipe", members[index : index + 2]) if index < pp - 1 else "",
        ends=_group("ends", (members[0], members[-1])) if index in {0, pp - 1} else "",
    )


def _group(kind: str, members: tuple[int, ...]) -> str:
    """Create a group in MindSpore and return its name; "" for a single rank."""
    if len(members) == 1:
        return ""
    name = f"{kind}-{'-'.join(map(str, members))}"
    communication.create_group(name, list(members))
    return name
