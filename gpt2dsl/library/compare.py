"""Differences between recipes, and between the plans and results of runs."""

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
"""Relative tolerance within which two training losses are on the same curve."""


ABSENT: Final = object()
"""The value of a key that a side lacks; None is a value."""


SIDES: Final = string.ascii_lowercase
"""Names of the compared sides in JSON."""


@attrs.frozen
class ComparedKey:
    """A key and its value on each side, ``ABSENT`` where a side lacks it."""

    key: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        return any(value != self.values[0] for value in self.values)

    def to_json(self) -> dict[str, Any]:
        """Return the values as a JSON object, without sides that lack the key."""
        sides = zip(SIDES, self.values, strict=False)
        return {"key": self.key} | {side: value for side, value in sides if value is not ABSENT}


@attrs.frozen
class CommonStep:
    """A step that both runs did, with the training loss of each."""

    step: int
    a: float
    b: float


@attrs.frozen
class LossCurves:
    """Agreement of two training loss curves.

    Attributes:
        common: number of common steps.
        unequal: first common step at which the losses are not bit-identical.
        apart: first common step at which they differ by more than ``TOLERANCE``.
    """

    common: int
    unequal: CommonStep | None
    apart: CommonStep | None

    def to_json(self) -> dict[str, Any]:
        return {
            "common_steps": self.common,
            "tolerance": TOLERANCE,
            "first_unequal": attrs.asdict(self.unequal) if self.unequal else None,
            "first_apart": attrs.asdict(self.apart) if self.apart else None,
        }


def recipes(*sides: Parts) -> list[ComparedKey]:
    """Return every value that differs, defaults included, in the order of the tables."""
    side_values = [_values(parts) for parts in sides]
    return [
        row for table in TABLES for row in _unlike(*(side.get(table, {}) for side in side_values))
    ]


def chains(*sides: Sequence[Parts]) -> list[ComparedKey]:
    """Return ``recipes`` of each stage, ``stage.2.optim.lr``; or tasks if a side lacks one."""
    rows = []
    for number, stages in enumerate(itertools.zip_longest(*sides), 1):
        if all(stages):
            differences = recipes(*stages)
        else:
            tasks = (stage.task.kind if stage and stage.task else ABSENT for stage in stages)
            differences = [ComparedKey("task.kind", tuple(tasks))]
        rows += [attrs.evolve(row, key=f"stage.{number}.{row.key}") for row in differences]
    return rows


def plans(*sides: Document) -> list[ComparedKey]:
    """Return the differences of what plans derive from recipes and inputs."""
    return _unlike(*map(_planned, sides))


def results(*sides: Run) -> list[ComparedKey]:
    """Return the results of runs, equal or not.

    Raises:
        InputError: the metrics of a run are damaged.
    """
    rows = _rows(*map(_given, sides))
    return [row for row in rows if any(value is not ABSENT for value in row.values)]


def losses(a: Run, b: Run) -> LossCurves | None:
    """Return the agreement of two runs' training losses; None if neither trained.

    Raises:
        InputError: the metrics of a run are damaged.
    """
    first, second = _curve(a, "loss"), _curve(b, "loss")
    if not (first or second):
        return None
    common = [
        CommonStep(step, first[step], second[step]) for step in sorted(first) if step in second
    ]
    return LossCurves(
        common=len(common),
        unequal=next((pair for pair in common if pair.a != pair.b), None),
        apart=next((pair for pair in common if not _close(pair)), None),
    )


def _values(parts: Parts) -> dict[str, dict[str, Any]]:
    """Return table → key → value, in the form in which digests compare them."""
    values: dict[str, dict[str, Any]] = {
        part.table: {name: getattr(part, name) for name in part.rules()} for part in parts
    }
    tables = {**values, **parts.identity()}
    return {
        table: {f"{table}.{key}": value for key, value in settings.items()}
        for table, settings in tables.items()
    }


def _rows(*sides: Mapping[str, Any]) -> list[ComparedKey]:
    keys = dict.fromkeys(itertools.chain(*sides))
    return [ComparedKey(key, tuple(side.get(key, ABSENT) for side in sides)) for key in keys]


def _unlike(*sides: Mapping[str, Any]) -> list[ComparedKey]:
    return [row for row in _rows(*sides) if row.differs]


def _planned(plan: Document) -> dict[str, Any]:
    counts = {
        "parameters": runs.count(plan, "parameters"),
        "trained": runs.count(plan, "trained"),
        "rows": runs.count(plan, "batches", "rows"),
        "steps": runs.count(plan, "batches", "steps"),
    }
    numbers = {key: value for key, value in counts.items() if value is not None}
    return {**numbers, **_digests(plan.get("inputs"))}


def _digests(inputs: Any) -> dict[str, Any]:
    """Return input key → digest, or its state, absent or not yet read, without a digest."""
    listed = inputs if isinstance(inputs, list) else []
    return {
        f"{entry['key']} (sha256)": entry.get("digest") or entry.get("state")
        for entry in listed
        if isinstance(entry, dict) and "key" in entry
    }


def _given(run: Run) -> dict[str, Any]:
    """Return the results of a run so far; ABSENT for missing ones."""
    evaluated = [{"step": step, "loss": loss} for step, loss in _curve(run, "eval_loss").items()]
    fields = {
        "state": str(run),
        "loss": run.loss,
        "loss_of": run.loss_of or None,
        "perplexity": run.perplexity,
        "tokens_per_second": run.tokens_per_second,
        "best_evaluation": min(evaluated, key=itemgetter("loss"), default=None),
        "last_evaluation": max(evaluated, key=itemgetter("step"), default=None),
    }
    return {key: ABSENT if value is None else value for key, value in fields.items()}


def _curve(run: Run, key: str) -> dict[int, float]:
    """Return step → value; the last value of a repeated step."""
    lines = runs.metrics(run.path)
    return {line["step"]: value for line in lines if (value := runs.number(line, key)) is not None}


def _close(step: CommonStep) -> bool:
    return math.isclose(step.a, step.b, rel_tol=TOLERANCE)
