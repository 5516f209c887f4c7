"""How the work is spread over devices; it never changes the result."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, flag, integer


@part
class Parallel(Part):
    """The layout of ranks: data, tensor and pipeline parallelism."""

    table: ClassVar[str] = "parallel"

    dp: int = integer(1, "data-parallel copies", low=1)
    mp: int = integer(1, "ranks that share each layer; divides 128 and the heads", low=1)
    pp: int = integer(1, "pipeline stages", low=1)
    micro_batches: int = integer(
        1, "per rank and step: gradient accumulation, and what fills the pipeline", low=1
    )
    optimizer_shard: bool = flag(False, "split the optimizer's state over dp (ZeRO-1)")
    sequence_parallel: bool = flag(False, "split layer norms and dropout over mp")
    recompute: str = choice(
        "none", ("none", "full", "selective"), "activations computed again in the backward pass"
    )

    @property
    def ranks(self) -> int:
        """Number of processes."""
        return self.dp * self.mp * self.pp
