"""Learning rate schedule."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, integer, number, steps_or_share

KINDS = ("constant", "linear", "cosine", "cosine_restarts", "polynomial")


@part
class Schedule(Part):
    """How the learning rate goes over the steps: a linear warm-up, then ``kind``."""

    table: ClassVar[str] = "schedule"

    kind: str = choice(KINDS, "shape after the warm-up", default="polynomial")
    warmup: float = steps_or_share("steps, or a fraction below 1 of all steps", default=0)
    end: float = number("learning rate at the end of cosine and polynomial", default=1e-5)
    power: float = number("power of polynomial", above=True, default=1.0)
    cycles: int = integer("cycles of cosine_restarts", low=1, default=1)
