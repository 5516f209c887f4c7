"""Recipes before validation: tables of raw values with their origins.

TOML files, Python recipes and ``--set`` are converted to this form; later ones override earlier
ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from gpt2dsl.errors import Fault, nearest
from gpt2dsl.parts import TABLES, TASKS, Part, Task, owners, trainer
from gpt2dsl.parts.base import check
from gpt2dsl.parts.rules import PART
from gpt2dsl.parts.values import plain


@attrs.frozen
class Value:
    """A raw value with its origin."""

    raw: Any
    origin: str


@attrs.frozen
class Table:
    """Raw values of a part, with the origin of its table."""

    origin: str
    values: Mapping[str, Value]

    def over(self, below: Table) -> Table:
        """Return both merged; keys of this table take precedence, as does its task."""
        kind, kind_below = self.values.get("kind"), below.values.get("kind")
        values = below.values
        is_other = kind and kind_below and kind.raw != kind_below.raw
        if kind and is_other and isinstance(kind.raw, str) and kind.raw in TASKS:
            shared = TASKS[kind.raw].rules()  # another task does not have the other keys
            values = {key: value for key, value in values.items() if key in shared}
        return Table(self.origin or below.origin, {**values, **self.values})


UNREAD = ("G2-001", "G2-002", "G2-003", "G2-004")
"""Codes of an unreadable base: keys that the recipe lacks may be set there."""


@attrs.frozen
class RawConfig:
    """A recipe before validation, with the faults found so far.

    ``extends`` is the Python recipe that it extends, directly or through files; "" for none.
    """

    tables: Mapping[str, Table]
    faults: tuple[Fault, ...] = ()
    name: str = ""
    extends: str = ""

    def over(self, below: RawConfig) -> RawConfig:
        """Return both merged; values of this one take precedence."""
        tables = dict(below.tables)
        for name, table in self.tables.items():
            base = tables.get(name, Table(table.origin, {}))
            tables[name] = table.over(_without_rivals(table, base, name))
        faults = below.faults + self.faults
        return RawConfig(tables, faults, self.name, self.extends or below.extends)


@attrs.frozen
class ChainDrafts:
    """Recipes of a chain in order, faults outside of them, and the name of the chain if any."""

    drafts: tuple[RawConfig, ...]
    faults: tuple[Fault, ...] = ()
    name: str = ""


def of_parts(parts: Mapping[str, Part], name: str = "") -> RawConfig:
    """Return the raw configuration of a recipe that was built in Python."""
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
    """Return the parts of a raw configuration, built from its valid values, and all faults.

    A part is left out if a required key is missing or faulty.
    """
    parts: dict[str, Part] = {}
    faults = list(draft.faults)
    for name, table in draft.tables.items():
        cls, raw, errors = _class_of(name, table)
        faults += errors
        if cls is None:
            continue
        values = {key: _nested(cls, key, plain(value.raw)) for key, value in raw.items()}
        origins = {key: value.origin for key, value in raw.items()}
        inside = {key: inner for key in raw if (inner := _inside(cls, key, raw[key]))}
        errors = [_elsewhere(fault, cls) for fault in check(cls, values, origins, table.origin)]
        errors = [fault for fault in errors if fault.key.partition(".")[2] not in inside]
        errors += [fault for inner in inside.values() for fault in inner]
        faults += errors
        faulty = {re.split("[. ]", fault.key)[1] for fault in errors}
        good = {key: value for key, value in values.items() if key not in faulty}
        if not any(rule.required and key not in good for key, rule in cls.rules().items()):
            parts[name] = cls(**good).written(table.origin, {key: origins[key] for key in good})
    if any(fault.code in UNREAD for fault in draft.faults):
        faults = [fault for fault in faults if fault.code != "G2-103"]
    ordered = {name: parts[name] for name in TABLES if name in parts}
    return ordered, tuple(faults)


def _without_rivals(above: Table, below: Table, name: str) -> Table:
    """Return ``below`` without keys that exclude one of ``above``: steps override epochs."""
    pairs = TABLES[name].exclusive if name in TABLES else ()
    rivals = {
        rival
        for pair in pairs
        for chosen, rival in (pair, pair[::-1])
        if chosen in above.values and rival not in above.values
    }
    return Table(below.origin, {k: v for k, v in below.values.items() if k not in rivals})


def _kind(part: Part) -> dict[str, str]:
    return {"kind": part.kind} if isinstance(part, Task) else {}


def _class_of(
    name: str, table: Table
) -> tuple[type[Part] | None, Mapping[str, Value], list[Fault]]:
    """Return the class of a table, its values without ``kind``, and faults."""
    if name != "task":
        return TABLES[name], table.values, []
    kind = table.values.get("kind")
    fields = {key: value for key, value in table.values.items() if key != "kind"}
    expected = f"expected one of {', '.join(TASKS)}"
    if kind is None:
        missing = Fault("G2-103", table.origin, "task.kind", f"missing; {expected}")
        return None, fields, [missing, *_of_no_task(fields)]
    if not isinstance(kind.raw, str) or kind.raw not in TASKS:
        error = Fault("G2-202", kind.origin, "task.kind", f"{expected}, found {kind.raw!r}")
        return None, fields, [error, *_of_no_task(fields)]
    return TASKS[kind.raw], fields, []


def _of_no_task(fields: Mapping[str, Value]) -> Iterator[Fault]:
    """Yield a fault for each key that no task has, for a task of unknown kind."""
    known = ["kind", *(key for task in TASKS.values() for key in task.rules())]
    for key, value in fields.items():
        if key not in known:
            is_kind = isinstance(value.raw, str) and value.raw in TASKS
            meant = "kind" if is_kind else nearest(key, known)
            hint = f"; did you mean {meant}?" if meant else trainer.hint(key)
            fault = Fault("G2-101", value.origin, f"task.{key}", f"unknown key{hint}", meant)
            yield _elsewhere(fault, Task)


def _nested(cls: type[Part], key: str, raw: Any) -> Any:
    """Return an inline table as a part, if its values are valid."""
    part = _part_within(cls, key, raw)
    return raw if part is None or check(part, raw, dict.fromkeys(raw, ""), "") else part(**raw)


def _inside(cls: type[Part], key: str, value: Value) -> list[Fault]:
    """Return the faults of an inline table that should be a part."""
    part = _part_within(cls, key, value.raw)
    if part is None:
        return []
    origins = dict.fromkeys(value.raw, value.origin)
    return [
        attrs.evolve(fault, key=fault.key.replace(part.table, f"{cls.table}.{key}", 1))
        for fault in check(part, value.raw, origins, value.origin)
    ]


def _part_within(cls: type[Part], key: str, raw: Any) -> type[Part] | None:
    """Return the class of the part that an inline table is; None for any other value."""
    parts = {field.name: field.metadata.get(PART) for field in cls.fields()}
    return parts.get(key) if isinstance(raw, dict) else None


def _elsewhere(fault: Fault, cls: type[Part]) -> Fault:
    """Return a fault, naming the tasks or tables that have its unknown key."""
    if fault.code != "G2-101":
        return fault
    key = fault.key.partition(".")[2]
    if cls.table == "task":
        tasks = [task.kind for task in TASKS.values() if key in task.rules()]
        if tasks:
            message = f"belongs to {' and '.join(tasks)}, this is {cls.kind}"  # type: ignore[attr-defined]
            return attrs.evolve(fault, code="G2-104", message=message, meant="")
    tables = [part.table for part in owners(key)]
    if tables and not fault.meant:
        return attrs.evolve(fault, message=f"unknown key; [{']['.join(tables)}] has {key}")
    return fault
