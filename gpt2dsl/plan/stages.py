"""Sizes of one pipeline stage, from which its memory and traffic are computed."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.local_params import LocalParam, local_params, on_stages
from gpt2dsl.layout.lora import lora_specs
from gpt2dsl.layout.pipeline_stages import layers_of
from gpt2dsl.parts.bundle import Parts


@attrs.frozen(kw_only=True)
class StageSizes:
    """Sizes of a rank of a pipeline stage; all ranks of a stage are alike.

    Attributes:
        index: index of the stage.
        pp: number of stages.
        layers: blocks of the stage.
        held: parameters of the stage.
        tokens: tokens of a micro-batch on a rank.
    """

    index: int
    pp: int
    layers: range
    held: tuple[LocalParam, ...]
    tokens: int

    @property
    def is_first(self) -> bool:
        """Whether the stage has the embeddings."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether the stage has the head."""
        return self.index == self.pp - 1

    @property
    def neighbours(self) -> int:
        """Number of stages that it exchanges activations with."""
        return (not self.is_first) + (not self.is_last)

    def elements(self, *, where: Callable[[LocalParam], bool] = lambda _: True) -> int:
        """Return the number of elements of its parameters on one rank."""
        return sum(param.size for param in self.held if where(param))


def stages_of(parts: Parts, geometry: GPT2Config) -> list[StageSizes]:
    """Return all pipeline stages of a recipe."""
    parallel = parts.parallel
    pp = parallel.pp
    rows = max(1, parts.train.batch_size // parallel.dp // parallel.micro_batches)
    adapters = lora_specs(geometry, parts.lora.settings()) if parts.lora else []
    return [
        StageSizes(
            index=index,
            pp=pp,
            layers=layers_of(index, geometry.layers, pp),
            held=tuple(params),
            tokens=rows * parts.train.seq_length,
        )
        for index, params in enumerate(
            on_stages(geometry, local_params(geometry, adapters, parallel.mp), pp)
        )
    ]
