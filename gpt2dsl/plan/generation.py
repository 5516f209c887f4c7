"""What a plan says and checks of generation."""

from __future__ import annotations

from collections.abc import Iterator

from gpt2dsl.errors import Fault
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.checks import fault


def faults(parts: Parts) -> list[Fault]:
    """What does not go together."""
    return [
        fault(parts, "G2-107", f"generation.{key}", why)
        for key, why in parts.generation.contradictions()
    ]


def notes(parts: Parts) -> Iterator[str]:
    """Values that were changed and change nothing."""
    if parts.task is None or parts.task.name != "generate":
        return
    for key in parts.generation.without_effect():
        needed = "beams" if key in ("length_penalty", "early_stopping") else "do_sample"
        yield f"generation.{key} changes nothing without {needed}"
