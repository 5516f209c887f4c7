"""Whether an evaluation can give the metrics that its recipe asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import REGRESSION, GPT2Config
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.checks import METRICS, fault


def faults(parts: Parts, geometry: GPT2Config) -> Iterator[Fault]:
    """Yield the fault of an evaluation that would give no metric that was asked for."""
    asked = _asked(parts)
    if asked and not set(asked) & set(_given(geometry)):
        cure = " or ".join(("leave it out", *(f"ask for {name}" for name in _given(geometry))))
        message = f"{_words(asked, geometry)}: {cure}"
        yield fault(parts, "G2-107", "task.metrics", message, "task.kind")


def notes(parts: Parts, geometry: GPT2Config) -> Iterator[str]:
    """Yield a note on metrics that are not given, beside others that are."""
    asked, given = _asked(parts), _given(geometry)
    if absent := [name for name in asked if name not in given]:
        yield f"task.metrics: {_words(absent, geometry)}"


def _asked(parts: Parts) -> Sequence[str]:
    """Return the metrics that are asked for; () where one of them is unknown."""
    asked: Sequence[str] = getattr(parts.task, "metrics", ())
    return asked if set(asked) <= set(METRICS) else ()


def _given(geometry: GPT2Config) -> tuple[str, ...]:
    """Return the metrics of a network."""
    if not geometry.labels:
        return ("perplexity",)
    return () if geometry.problem == REGRESSION else ("accuracy",)


def _words(absent: Sequence[str], geometry: GPT2Config) -> str:
    """Return that a network has no such metrics."""
    kind = "a classifier" if geometry.labels else "a language model"
    if geometry.labels and geometry.problem == REGRESSION:
        kind = "a classifier that gives a number"
    return f"{kind} has no {' and no '.join(dict.fromkeys(absent))}"
