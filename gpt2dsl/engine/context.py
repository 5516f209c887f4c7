"""The ranks of a job, met as its recipe lays them out."""

from __future__ import annotations

from gpt2dsl.distributed import context
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.parts.bundle import Parts


def parallel_context(parts: Parts) -> ParallelContext:
    """Meet the other ranks of a recipe; in a process that no launcher started it is alone."""
    parallel = parts.parallel
    return context.parallel_context(
        parallel.grid,
        parts.runtime.device,
        shards_state=parallel.optimizer_shard,
        sequence=parallel.sequence_parallel and parallel.mp > 1 and parts.trains,
    )
