"""The parallel context of a recipe."""

from __future__ import annotations

from gpt2dsl.distributed import context
from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.parts.bundle import Parts


def parallel_context(parts: Parts) -> ParallelContext:
    """Join the ranks of a recipe; a process without a launcher is a single rank."""
    parallel = parts.parallel
    return context.parallel_context(
        parallel.grid,
        parts.runtime.device,
        shards_state=parallel.optimizer_shard,
        sequence=parallel.sequence_parallel and parallel.mp > 1 and parts.trains,
    )
