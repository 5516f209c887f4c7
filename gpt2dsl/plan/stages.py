"""The sizes of one pipeline stage that its memory and its traffic are made of."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from gpt2dsl.layout.adapters import adapters
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.layout.held import Held, held, on_stages
from gpt2dsl.layout.stages import layers_of
from gpt2dsl.parts.bundle import Parts


@attrs.frozen(kw_only=True)
class Stage:
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
    held: tuple[Held, ...]
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

    def elements(self, *, where: Callable[[Held], bool] = lambda _: True) -> int:
        """Of its parameters on one rank."""
        return sum(one.size for one in self.held if where(one))


def stages_of(parts: Parts, geometry: Geometry) -> list[Stage]:
    """All stages of a recipe."""
    parallel = parts.parallel
    pp = parallel.pp
    rows = max(1, parts.train.batch_size // parallel.dp // parallel.micro_batches)
    added = adapters(geometry, parts.lora.settings()) if parts.lora else []
    return [
        Stage(
            index=index,
            pp=pp,
            layers=layers_of(index, geometry.layers, pp),
            held=tuple(own),
            tokens=rows * parts.train.seq_length,
        )
        for index, own in enumerate(on_stages(geometry, held(geometry, added, parallel.mp), pp))
    ]
