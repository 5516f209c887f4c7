"""A recipe before it is checked: tables of raw values, each of which knows where it was written.

TOML files, Python recipes and ``--set`` all become this; later ones lie over earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from gpt2dsl.errors import Fault
from gpt2dsl.parts import TABLES, TASKS, Part, Task, owners
from gpt2dsl.parts.base import check
from gpt2dsl.parts.parallel import Parallel


@attrs.frozen
class Value:
    """A raw value and where it was written."""

    raw: Any
    origin: str


@attrs.frozen
class Table:
    """One part's raw values, and where its table was written."""

    origin: str
    values: Mapping[str, Value]

    def over(self, below: Table) -> Table:
        """Both, where this one wins; of two keys that exclude each other, too."""
        kind, kind_below = self.values.get("kind"), below.values.get("kind")
        values = below.values
        if kind and kind_below and kind.raw != kind_below.raw and kind.raw in TASKS:
            shared = TASKS[kind.raw].rules()  # another task has no use for the others
            values = {key: value for key, value in values.items() if key in shared}
        return Table(self.origin or below.origin, {**values, **self.values})


UNREAD = ("G2-001", "G2-002", "G2-003", "G2-004")
"""Codes of what a recipe extends and can't be read: what the recipe lacks may stand there."""


@attrs.frozen
class RawConfig:
    """A recipe before it is checked.

    Attributes:
        tables: of the recipe.
        faults: that were found so far.
        name: of its own; "" where it has none.
        extends: the Python recipe that it extends, directly or through files; "" where there is
            none.
    """

    tables: Mapping[str, Table]
    faults: tuple[Fault, ...] = ()
    name: str = ""
    extends: str = ""

    def over(self, below: RawConfig) -> RawConfig:
        """Both, where this one wins."""
        tables = dict(below.tables)
        for name, table in self.tables.items():
            below_it = tables.get(name, Table(table.origin, {}))
            tables[name] = table.over(_without_rivals(table, below_it, name))
        faults = below.faults + self.faults
        return RawConfig(tables, faults, self.name, self.extends or below.extends)


@attrs.frozen
class ChainDrafts:
    """The recipes of a chain in their order, the faults beside them, and its name if it has one."""

    drafts: tuple[RawConfig, ...]
    faults: tuple[Fault, ...] = ()
    name: str = ""


def of_parts(parts: Mapping[str, Part], name: str = "") -> RawConfig:
    """Return the draft of a recipe that was built in Python."""
    return RawConfig(
        {
            table: Table(
                part.origin,
                {
                    key: Value(value, part.why(key))
                    for key, value in {**_kind(part), **part.given()}.items()
                },
            )
            for table, part in parts.items()
        },
        name=name,
    )


def structure(draft: RawConfig) -> tuple[dict[str, Part], tuple[Fault, ...]]:
    """Return the parts of a draft, made of its good values only, and every fault so far.

    A part that lacks a required key, because it is missing or faulty, is left out.
    """
    parts: dict[str, Part] = {}
    faults = list(draft.faults)
    for name, table in draft.tables.items():
        cls, raw, found = _class_of(name, table)
        faults += found
        if cls is None:
            continue
        values = {key: _nested(cls, key, value.raw) for key, value in raw.items()}
        origins = {key: value.origin for key, value in raw.items()}
        inside = {key: inner for key in raw if (inner := _inside(cls, key, raw[key]))}
        found = [_elsewhere(fault, cls) for fault in check(cls, values, origins, table.origin)]
        found = [fault for fault in found if fault.key.partition(".")[2] not in inside]
        found += [fault for inner in inside.values() for fault in inner]
        faults += found
        faulty = {re.split("[. ]", fault.key)[1] for fault in found}
        good = {key: value for key, value in values.items() if key not in faulty}
        if not any(rule.required and key not in good for key, rule in cls.rules().items()):
            parts[name] = cls(**good).written(table.origin, {key: origins[key] for key in good})
    if any(fault.code in UNREAD for fault in draft.faults):
        faults = [fault for fault in faults if fault.code != "G2-103"]
    ordered = {name: parts[name] for name in TABLES if name in parts}
    return ordered, tuple(faults)


def _without_rivals(above: Table, below: Table, name: str) -> Table:
    """``below`` without keys that exclude one of ``above``: who says steps means no epochs."""
    pairs = TABLES[name].exclusive if name in TABLES else ()
    rivals = {
        rival
        for pair in pairs
        for said, rival in (pair, pair[::-1])
        if said in above.values and rival not in above.values
    }
    return Table(below.origin, {k: v for k, v in below.values.items() if k not in rivals})


def _kind(part: Part) -> dict[str, str]:
    return {"kind": part.kind} if isinstance(part, Task) else {}


def _class_of(
    name: str, table: Table
) -> tuple[type[Part] | None, Mapping[str, Value], list[Fault]]:
    """Return the class of a table, its values without the one that chose the class, and faults."""
    if name != "task":
        return TABLES[name], table.values, []
    kind = table.values.get("kind")
    rest = {key: value for key, value in table.values.items() if key != "kind"}
    expected = f"expected one of {', '.join(TASKS)}"
    if kind is None:
        return None, rest, [Fault("G2-103", table.origin, "task.kind", f"missing; {expected}")]
    if not isinstance(kind.raw, str) or kind.raw not in TASKS:
        found = Fault("G2-202", kind.origin, "task.kind", f"{expected}, found {kind.raw!r}")
        return None, rest, [found]
    return TASKS[kind.raw], rest, []


def _nested(cls: type[Part], key: str, raw: Any) -> Any:
    """Return an inline table as the part that the field holds, where its values are right."""
    if not _holds_part(cls, key, raw):
        return raw
    return raw if check(Parallel, raw, dict.fromkeys(raw, ""), "") else Parallel(**raw)


def _inside(cls: type[Part], key: str, value: Value) -> list[Fault]:
    """Return the faults of an inline table that should be a part."""
    if not _holds_part(cls, key, value.raw):
        return []
    origins = dict.fromkeys(value.raw, value.origin)
    return [
        attrs.evolve(fault, key=fault.key.replace(Parallel.table, f"{cls.table}.{key}", 1))
        for fault in check(Parallel, value.raw, origins, value.origin)
    ]


def _holds_part(cls: type[Part], key: str, raw: Any) -> bool:
    return "layout" in key and key in cls.rules() and isinstance(raw, dict)


def _elsewhere(fault: Fault, cls: type[Part]) -> Fault:
    """An unknown key, told apart: one of another task, one of another table, or just unknown."""
    if fault.code != "G2-101":
        return fault
    key = fault.key.partition(".")[2]
    if cls.table == "task":
        tasks = [task.kind for task in TASKS.values() if key in task.rules()]
        if tasks:
            message = f"belongs to {' and '.join(tasks)}, this is {cls.kind}"  # type: ignore[attr-defined]
            return attrs.evolve(fault, code="G2-104", message=message, meant="")
    tables = [one.table for one in owners(key)]
    if tables and "did you mean" not in fault.message:
        return attrs.evolve(fault, message=f"unknown key; [{']['.join(tables)}] has {key}")
    return fault
