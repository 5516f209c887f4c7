"""Parallel layout of a run, without influence on the result."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, flag, integer, size


@part
class Parallel(Part):
    """The layout of ranks: data, tensor and pipeline parallelism."""

    table: ClassVar[str] = "parallel"

    dp: int = integer("data-parallel size", low=1, default=1)
    mp: int = integer("tensor-parallel size; must divide 128 and the heads", low=1, default=1)
    pp: int = integer("pipeline stages", low=1, default=1)
    micro_batches: int = integer(
        "micro-batches per rank and step, for gradient accumulation and to fill the pipeline",
        low=1,
        default=1,
    )
    optimizer_shard: bool = flag("shard the optimizer state over dp (ZeRO-1)", default=False)
    sequence_parallel: bool = flag("split layer norms and dropout over mp", default=False)
    recompute: str = choice(
        ("none", "full", "selective"),
        "activations to recompute in the backward pass",
        default="none",
    )

    devices: int = integer(
        "number of devices for which to choose a layout; 0 for the layout as given", default=0
    )
    memory: str = size(
        "memory of a device that a chosen layout must fit; empty for any", default=""
    )

    @classmethod
    def auto(cls, devices: int, memory: str = "") -> Parallel:
        """Return a part whose layout the plan chooses: the fastest one on ``devices`` devices.

        Args:
            devices: number of devices.
            memory: memory of each, such as ``30GB``; empty for no limit.
        """
        return cls(devices=devices, memory=memory)

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return self.grid.count

    @property
    def grid(self) -> ParallelDims:
        """Sizes of the data parallel, tensor parallel and pipeline dimensions."""
        return ParallelDims(self.dp, self.mp, self.pp)
