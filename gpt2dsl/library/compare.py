"""What differs between recipes, and between the plans and results of runs."""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import attrs

from gpt2dsl.library import runs
from gpt2dsl.library.runs import Document, Run
from gpt2dsl.parts import TABLES
from gpt2dsl.parts.bundle import Parts

TOLERANCE = 1e-6
"""Training losses that differ by more, relative to the larger one, are not the same curve."""


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()
"""The value of a key that one side does not have; None is a value."""


SIDES: Final = string.ascii_lowercase
"""Names of what is compared, in JSON."""


@attrs.frozen
class ComparedKey:
    """A key and its value on each side, ``ABSENT`` where one does not have it."""

    key: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether a side is unlike the first."""
        return any(value != self.values[0] for value in self.values)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, without a side that is absent."""
        sides = zip(SIDES, self.values, strict=False)
        return {"key": self.key} | {side: value for side, value in sides if value is not ABSENT}


@attrs.frozen
class CommonStep:
    """A step that both runs did, and the training loss of each."""

    step: int
    a: float
    b: float


@attrs.frozen
class LossCurves:
    """How far two curves of training losses go together.

    Attributes:
        common: how many steps both have.
        unequal: the first of them at which the losses are not equal bit for bit.
        apart: the first of them at which they differ by more than ``TOLERANCE``.
    """

    common: int
    unequal: CommonStep | None
    apart: CommonStep | None

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "common_steps": self.common,
            "tolerance": TOLERANCE,
            "first_unequal": attrs.asdict(self.unequal) if self.unequal else None,
            "first_apart": attrs.asdict(self.apart) if self.apart else None,
        }


def recipes(*sides: Parts) -> list[ComparedKey]:
    """Every value that differs, defaults included, in the order in which recipes are written."""
    said = [_values(parts) for parts in sides]
    return [row for table in TABLES for row in _unlike(*(one.get(table, {}) for one in said))]


def chains(*sides: Sequence[Parts]) -> list[ComparedKey]:
    """As ``recipes``, stage by stage: ``stage.2.optim.lr``; the task of one that a side lacks."""
    rows = []
    for number, stages in enumerate(itertools.zip_longest(*sides), 1):
        if all(stages):
            found = recipes(*stages)
        else:
            tasks = (one.task.kind if one and one.task else ABSENT for one in stages)
            found = [ComparedKey("task.kind", tuple(tasks))]
        rows += [attrs.evolve(row, key=f"stage.{number}.{row.key}") for row in found]
    return rows


def plans(*sides: Document) -> list[ComparedKey]:
    """What plans make of their recipes and inputs, where that differs."""
    return _unlike(*map(_planned, sides))


def results(*sides: Run) -> list[ComparedKey]:
    """What runs gave, equal or not.

    Raises:
        InputError: the metrics of one are damaged.
    """
    rows = _rows(*map(_given, sides))
    return [row for row in rows if any(value is not ABSENT for value in row.values)]


def losses(a: Run, b: Run) -> LossCurves | None:
    """Return how far the training losses of two runs go together; None where neither trained.

    Raises:
        InputError: the metrics of one are damaged.
    """
    ours, theirs = _curve(a, "loss"), _curve(b, "loss")
    if not (ours or theirs):
        return None
    common = [CommonStep(step, ours[step], theirs[step]) for step in sorted(ours) if step in theirs]
    return LossCurves(
        common=len(common),
        unequal=next((one for one in common if one.a != one.b), None),
        apart=next((one for one in common if not _close(one)), None),
    )


def _values(parts: Parts) -> dict[str, dict[str, Any]]:
    """Table → key → value, in the form in which digests compare them."""
    values: dict[str, dict[str, Any]] = {
        part.table: {name: getattr(part, name) for name in part.rules()} for part in parts
    }
    tables = {**values, **parts.identity()}
    return {
        table: {f"{table}.{key}": value for key, value in found.items()}
        for table, found in tables.items()
    }


def _rows(*sides: Mapping[str, Any]) -> list[ComparedKey]:
    keys = dict.fromkeys(itertools.chain(*sides))
    return [ComparedKey(key, tuple(side.get(key, ABSENT) for side in sides)) for key in keys]


def _unlike(*sides: Mapping[str, Any]) -> list[ComparedKey]:
    return [row for row in _rows(*sides) if row.differs]


def _planned(plan: Document) -> dict[str, Any]:
    """What follows from a recipe and its inputs."""
    found = {
        "parameters": runs.count(plan, "parameters"),
        "trained": runs.count(plan, "trained"),
        "rows": runs.count(plan, "batches", "rows"),
        "steps": runs.count(plan, "batches", "steps"),
    }
    numbers = {key: value for key, value in found.items() if value is not None}
    return {**numbers, **_digests(plan.get("inputs"))}


def _digests(inputs: Any) -> dict[str, Any]:
    """Key of each input → its digest; its state where it has none: absent, or not read so far."""
    listed = inputs if isinstance(inputs, list) else []
    return {
        f"{one['key']} (sha256)": one.get("digest") or one.get("state")
        for one in listed
        if isinstance(one, dict) and "key" in one
    }


def _given(run: Run) -> dict[str, Any]:
    """What a run gave so far; ABSENT where it gave no such thing."""
    evaluated = [{"step": step, "loss": loss} for step, loss in _curve(run, "eval_loss").items()]
    found = {
        "state": str(run),
        "loss": run.loss,
        "perplexity": run.perplexity,
        "tokens_per_second": run.tokens_per_second,
        "best_evaluation": min(evaluated, key=itemgetter("loss"), default=None),
        "last_evaluation": max(evaluated, key=itemgetter("step"), default=None),
    }
    return {key: ABSENT if value is None else value for key, value in found.items()}


def _curve(run: Run, key: str) -> dict[int, float]:
    """Step → value; the last one where a step was done again."""
    lines = runs.metrics(run.path)
    return {line["step"]: value for line in lines if (value := runs.number(line, key)) is not None}


def _close(one: CommonStep) -> bool:
    return math.isclose(one.a, one.b, rel_tol=TOLERANCE)
