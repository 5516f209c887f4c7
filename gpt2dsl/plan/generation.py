"""Checks and notes of generation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from gpt2dsl.errors import Fault, SpecError
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.generation import OF_BEAMS, SAMPLING
from gpt2dsl.parts.rules import LARGEST
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan import serving
from gpt2dsl.plan.checks import fault
from gpt2dsl.schema import generation_config

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import Look

_NEED = {"do_sample": SAMPLING, "beams": OF_BEAMS}
"""Setting → keys that have no effect unless it is on."""


def completed(parts: Parts, looked: Look | None) -> tuple[Generation, list[Fault]]:
    """Return the generation settings, completed by those of the weights, and their faults.

    Where the task generates no text, faults of the weights' settings are ignored.
    """
    asked = parts.generation
    if isinstance(parts.task, Serve):
        return _of_requests(parts, looked) if looked else (asked, [])
    if looked is None:
        return asked, faults(parts)
    generation, problems = asked, list[Fault]()
    try:
        generation = looked.defaults.completed(asked)
    except SpecError as error:
        problems += error.faults
    try:
        looked.defaults.refuse(asked)
    except SpecError as error:
        problems += error.faults
    if not _generates(parts):
        return generation, faults(parts)
    return generation, [*faults(attrs.evolve(parts, generation=generation)), *problems]


_REQUEST = Generation(
    max_new_tokens=LARGEST, do_sample=True, beams=1, num_return_sequences=1, logprobs=None, seed=0
)
"""Settings that every request to a server carries."""


def _of_requests(parts: Parts, looked: Look) -> tuple[Generation, list[Fault]]:
    """Return the defaults of a server's requests, and the faults that would fail every request."""
    asked = parts.generation
    defaults = looked.defaults.overridden(serving.defaults_of_requests(asked))
    try:
        defaults.refuse(_REQUEST)
        generation = defaults.completed(_REQUEST)
    except SpecError as error:
        return asked, list(error.faults)
    problems = faults(attrs.evolve(parts, generation=generation))
    for key, ids in generation.ids.items():
        if ids and max(ids) >= looked.geometry.vocab:
            message = f"{max(ids)} is no id: there are {looked.geometry.vocab}"
            problems.append(fault(parts, "G2-202", f"generation.{key}", message))
    shown = serving.defaults_of_requests(generation)
    values = asked.given() | shown.given()
    origins = {key: (shown if key in shown.given() else asked).why(key) for key in values}
    written = Generation(**values).written(asked.origin, origins)
    assert isinstance(written, Generation)
    return written, problems


def faults(parts: Parts) -> list[Fault]:
    """Return settings that contradict each other."""
    return [
        fault(parts, "G2-107", f"generation.{key}", why)
        for key, why in parts.generation.contradictions()
    ]


def notes(parts: Parts, generation: Generation, looked: Look | None) -> Iterator[str]:
    """Yield notes on keys without effect, and on settings of the weights that may surprise.

    Args:
        parts: the recipe's.
        generation: the settings, completed by those of the weights.
        looked: description of the weights.
    """
    if not _generates(parts):
        return
    if isinstance(parts.task, Serve):
        yield from looked.defaults.notes if looked and not parts.generation.eos else ()
        return
    has = {"do_sample": generation.do_sample, "beams": generation.beams > 1}
    for needed, keys in _NEED.items():
        for key in sorted(keys) if not has[needed] else ():
            if parts.generation.changed().get(key, _default(key)) != _default(key):
                yield f"generation.{key} changes nothing without {needed}"
    if looked and not parts.generation.eos:
        yield from looked.defaults.notes


def written(parts: Parts, looked: Look | None) -> dict[str, Any] | None:
    """Return the generation_config.json of trained weights; None where the initial ones have none.

    It is that of the initial weights, overridden by the recipe.
    """
    content = looked.defaults.generation if looked else None
    if content is None:
        return None
    overrides = {key: value for key, value in parts.generation.given().items() if value is not None}
    return generation_config.written(content, overrides)


def _generates(parts: Parts) -> bool:
    return parts.task is not None and parts.task.generates


def _default(key: str) -> Any:
    return getattr(Generation(), key)
