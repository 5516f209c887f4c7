"""How the learning rate goes over the steps."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, integer, number, steps_or_share

KINDS = ("constant", "linear", "cosine", "cosine_restarts", "polynomial")


@part
class Schedule(Part):
    """How the learning rate goes over the steps: a linear warm-up, then ``kind``."""

    table: ClassVar[str] = "schedule"

    kind: str = choice("polynomial", KINDS, "shape after the warm-up")
    warmup: float = steps_or_share(0, "steps, or a fraction below 1 of all steps")
    end: float = number(1e-5, "learning rate at the end of cosine and polynomial")
    power: float = number(1.0, "of polynomial", above=True)
    cycles: int = integer(1, "of cosine_restarts", low=1)
