"""Checks and notes of generation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.generation import OF_BEAMS, SAMPLING
from gpt2dsl.plan.checks import fault
from gpt2dsl.schema import generation_config

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import WeightsInfo

_NEED = {"do_sample": SAMPLING, "beams": OF_BEAMS}
"""Setting → keys that have no effect unless it is on."""


def completed(parts: Parts, info: WeightsInfo | None) -> tuple[Generation, list[Fault]]:
    """Return the settings, completed by those of the weights, and the faults of these."""
    settings, problems = parts.generation, list[Fault]()
    if info is None:
        return settings, problems
    try:
        settings = info.defaults.completed(parts.generation)
    except SpecError as error:
        problems += map(_comparing, error.faults)
    try:
        info.defaults.refuse(parts.generation)
    except SpecError as error:
        problems += map(_comparing, error.faults)
    return settings, problems


def _comparing(problem: Fault) -> Fault:
    """Return a fault of settings that those of the weights complete."""
    return attrs.evolve(problem, compared=("generation", "model"))


def faults(parts: Parts, generation: Generation) -> list[Fault]:
    """Return generation settings that contradict each other."""
    completed = attrs.evolve(parts, generation=generation)
    return [
        fault(completed, "G2-107", f"generation.{key}", why, compared=("generation", "model"))
        for key, why in generation.contradictions()
    ]


def notes(parts: Parts, generation: Generation, info: WeightsInfo | None) -> Iterator[str]:
    """Yield notes on keys without effect, and on settings of the weights that may surprise.

    Args:
        parts: the recipe's.
        generation: the settings, completed by those of the weights.
        info: description of the weights.
    """
    has = {"do_sample": generation.do_sample, "beams": generation.beams > 1}
    for needed, keys in _NEED.items():
        for key in sorted(keys) if not has[needed] else ():
            if parts.generation.changed().get(key, _default(key)) != _default(key):
                yield f"generation.{key} changes nothing without {needed}"
    if info and not parts.generation.eos:
        yield from info.defaults.notes


def written(parts: Parts, info: WeightsInfo | None) -> dict[str, Any] | None:
    """Return the generation_config.json of trained weights; None where the initial ones have none.

    It is that of the initial weights, overridden by the recipe.
    """
    content = info.defaults.generation if info else None
    if content is None:
        return None
    overrides = {key: value for key, value in parts.generation.given().items() if value is not None}
    return generation_config.written(content, overrides)


def _default(key: str) -> Any:
    return getattr(Generation(), key)
