"""The ranks of a job, met as its recipe lays them out."""

from __future__ import annotations

import os

from gpt2dsl.distributed.context import ParallelContext, join
from gpt2dsl.parts.bundle import Parts


def parallel_context(parts: Parts) -> ParallelContext:
    """Join the other ranks of a recipe, if any; the launcher gives each its ``RANK_ID``."""
    parallel = parts.parallel
    if parallel.ranks == 1:
        return ParallelContext()
    return join(
        parallel.grid,
        int(os.environ["RANK_ID"]),
        parts.runtime.device,
        sequence_parallel=parallel.sequence_parallel and parallel.mp > 1 and parts.trains,
    )
