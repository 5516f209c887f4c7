"""What a plan says and checks of generation."""

from __future__ import annotations

from collections.abc import Iterator

from gpt2dsl.errors import Fault
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.checks import fault

_NEED = {
    "do_sample": ("temperature", "top_k", "top_p", "min_p", "typical_p", "seed"),
    "beams": ("length_penalty", "early_stopping"),
}
"""What has to be on → the keys that mean nothing without it."""


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
    wanted = parts.generation
    has = {"do_sample": wanted.do_sample, "beams": wanted.beams > 1}
    for needed, keys in _NEED.items():
        for key in keys if not has[needed] else ():
            if key in wanted.changed():
                yield f"generation.{key} changes nothing without {needed}"
