"""The groups of ranks that exchange, as MindSpore has them."""

from __future__ import annotations

import os
import pickle
from typing import Any

import attrs
import mindspore.ops.operations as P  # as in model/
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
    """All ranks of a job, seen from one of them.

    Attributes:
        ranks: their layout.
        rank: which one this is.
        shard: the ranks that share its layers.
        copies: the ranks that hold the same parameters.
        stages: the stages of the pipeline.
    """

    ranks: ParallelDims = attrs.field(factory=ParallelDims)
    rank: int = 0
    shard: TensorParallelGroup = NO_TENSOR_PARALLEL
    copies: DataParallelGroup = NO_DATA_PARALLEL
    stages: PipelineGroup = NO_PIPELINE

    @property
    def is_main_process(self) -> bool:
        """Whether this is the rank that speaks and writes for all."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is one rank."""
        return self.ranks.count == 1

    def gathered(self, *numbers: float) -> list[tuple[float, ...]]:
        """Return the numbers of every rank, to the last digit; all ranks ask at once.

        They cross as two float32 each, the second holding what the first rounds away: 48 bits.
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
        """Return whether any rank says yes; all ranks ask at once."""
        return any(said for (said,) in self.gathered(float(mine)))

    def wait(self) -> None:
        """Until all ranks are here."""
        self.any(mine=False)

    def of_copies(self, mine: Any) -> list[Any]:
        """What each copy has, anything that pickles; all ranks ask at once."""
        if self.copies.dp == 1:
            return [mine]
        data = np.frombuffer(pickle.dumps(mine), np.uint8)
        sizes = [int(size) for (size,) in self.gathered(len(data))]
        table = np.zeros((self.copies.dp, max(sizes)), np.float32)
        table[self.copies.index, : len(data)] = data
        every = P.AllReduce(group=self.copies.group)(Tensor(table)).asnumpy().astype(np.uint8)
        return [pickle.loads(row.tobytes()) for row in every]  # noqa: S301  # our own ranks'


def parallel_context(
    ranks: ParallelDims, on: str, *, shards_state: bool = False, sequence: bool = False
) -> ParallelContext:
    """Meet the other ranks of a job; a process that is the only one is alone.

    Args:
        ranks: the layout.
        on: the device.
        shards_state: as in ``join``.
        sequence: as in ``join``.
    """
    if ranks.count == 1:
        return ParallelContext()
    rank = int(os.environ["RANK_ID"])
    return join(ranks, rank, on, shards_state=shards_state, sequence=sequence)


def join(
    ranks: ParallelDims, rank: int, on: str, *, shards_state: bool = False, sequence: bool = False
) -> ParallelContext:
    """Meet the other ranks; returns when all are there.

    Args:
        ranks: the layout.
        rank: of this process, which the launcher has told MindSpore too.
        on: the device.
        shards_state: whether copies share the optimizer's state.
        sequence: whether ranks that share layers have some tokens each outside of them.

    Raises:
        RuntimeError: MindSpore could not reach the others.
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
    """Return the groups of a stage with others."""
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
    """MindSpore's name for some ranks; "" for one alone."""
    if len(members) == 1:
        return ""
    name = f"{kind}-{'-'.join(map(str, members))}"
    communication.create_group(name, list(members))
    return name
