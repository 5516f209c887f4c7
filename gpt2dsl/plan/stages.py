"""The sizes of one pipeline stage that its memory and its traffic are made of."""

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
    """A rank of a pipeline stage; all of its ranks hold and do as much.

    Attributes:
        index: of the stage.
        pp: how many there are.
        layers: its blocks.
        held: its parameters.
        tokens: of a micro-batch on a rank.
    """

    index: int
    pp: int
    layers: range
    held: tuple[LocalParam, ...]
    tokens: int

    @property
    def is_first(self) -> bool:
        """Whether it embeds."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether it has the head."""
        return self.index == self.pp - 1

    @property
    def neighbours(self) -> int:
        """Stages that it exchanges with."""
        return (not self.is_first) + (not self.is_last)

    def elements(self, *, where: Callable[[LocalParam], bool] = lambda _: True) -> int:
        """Of its parameters on one rank."""
        return sum(one.size for one in self.held if where(one))


def stages_of(parts: Parts, geometry: GPT2Config) -> list[StageSizes]:
    """Return all stages of a recipe."""
    parallel = parts.parallel
    pp = parallel.pp
    rows = max(1, parts.train.batch_size // parallel.dp // parallel.micro_batches)
    added = lora_specs(geometry, parts.lora.settings()) if parts.lora else []
    return [
        StageSizes(
            index=index,
            pp=pp,
            layers=layers_of(index, geometry.layers, pp),
            held=tuple(own),
            tokens=rows * parts.train.seq_length,
        )
        for index, own in enumerate(
            on_stages(geometry, local_params(geometry, added, parallel.mp), pp)
        )
    ]
