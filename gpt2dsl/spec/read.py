"""Reading of TOML: syntax, tables, and recipes that ``extends`` names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, time
from pathlib import Path
from typing import Any

import attrs
import regex

from gpt2dsl.errors import Fault, SpecError, did_you_mean, nearest
from gpt2dsl.parts import TABLES, TASKS, owners, trainer
from gpt2dsl.parts.rules import FieldRule
from gpt2dsl.parts.values import comma
from gpt2dsl.spec.positions import positions, statements
from gpt2dsl.spec.tables import ChainDrafts, RawConfig, Table, Value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Find = Callable[[str, str], RawConfig]
"""Name of a recipe, and the file that names it → its raw configuration."""

SHARED_TABLE = "runtime"
"""Table that applies to all stages of a chain if it is outside of them."""

_HAS_LINE = regex.compile(r":\d+$")
_LOOSE = regex.compile(r"[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?")
"""Numbers that are common but not TOML, such as ``.5`` and ``1.``."""

_DATE = regex.compile(
    r"(?:\d{4}-\d{2}-\d{2}[Tt ])?\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})?"
    r"|\d{4}-\d{2}-\d{2}"
)

_BARE = regex.compile(r"\s*([\w.-]+)\s*=\s*([A-Za-z./~][\w ./:~*-]*[\w./~*-])\s*(?:#.*)?")
_COMMA = regex.compile(r"\s*[\w.-]+\s*=\s*([+-]?\d+(?:,\d+)+(?:[eE][+-]?\d+)?)\s*(?:#.*)?")
_AT = regex.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")


def read_text(text: str, name: str, find: Find) -> RawConfig | ChainDrafts:
    """Return the raw configuration of a TOML text, or of each stage of a chain.

    ``find`` returns the raw configuration of the recipe that ``extends`` names.

    Raises:
        SpecError: it is not TOML, so that no other faults can be found.
    """
    if misspelt := list(_misspelt_stages(text, name)):
        raise SpecError(misspelt)  # without them other stages take in their tables
    document = _parse(text, name)
    places = _Places(name, positions(text), dates=_dates(text))
    if "stage" not in document:
        return _draft(document, places, find)
    stages = document["stage"]
    if not isinstance(stages, list) or not stages or not all(map(_is_table, stages)):
        found = "[stage]" if isinstance(stages, dict) else repr(stages)
        message = f"expected [[stage]], a table for each, found {found}"
        raise SpecError([Fault("G2-201", places.of("stage"), "stage", message)])
    outside = {key: raw for key, raw in document.items() if key == SHARED_TABLE}
    misplaced = [
        Fault("G2-105", places.of(key), key, f"it belongs into a [[stage]], as [stage.{key}]")
        for key in document
        if key not in (SHARED_TABLE, "stage")
    ]
    shared = _draft(outside, places, find)
    drafts = [
        _draft(stage, places.below(f"stage.{number}"), find, shared)
        for number, stage in enumerate(stages, 1)
    ]
    return ChainDrafts(tuple(drafts), tuple(misplaced))


def _misspelt_stages(text: str, name: str) -> Iterator[Fault]:
    """Yield a fault for each ``[[stages]]`` and the like."""
    lines = text.split("\n")
    for header, line in statements(text):
        table = header.partition(".")[0]
        is_array = lines[line - 1].lstrip().startswith("[[")
        if is_array and table not in ("stage", *TABLES) and nearest(table.lower(), ["stage"]):
            message = "unknown table; did you mean [[stage]]?"
            yield Fault("G2-102", f"{name}:{line}", table, message)


def _is_table(raw: Any) -> bool:
    return isinstance(raw, dict)


@attrs.frozen
class _Places:
    """Line numbers of a document's keys, and its dates as written."""

    file: str
    lines: Mapping[str, int]
    prefix: str = ""
    dates: Mapping[tuple[type, str], str] = attrs.field(factory=dict)

    def of(self, key: str) -> str:
        """Return ``file:line`` of a key, or of the innermost table around it that has a line."""
        name = f"{self.prefix}{key}"
        while name and name not in self.lines:
            name = name.rpartition(".")[0]
        return f"{self.file}:{self.lines.get(name, 1)}"

    def below(self, table: str) -> _Places:
        """Return the places of a table's keys."""
        return _Places(self.file, self.lines, f"{table}.", self.dates)

    def worded(self, raw: Any) -> Any:
        """Return a value with each date in it replaced by its text as written."""
        if isinstance(raw, list):
            return [self.worded(item) for item in raw]
        return self.dates.get((type(raw), str(raw)), raw) if isinstance(raw, date | time) else raw


def _draft(
    document: Mapping[str, Any], places: _Places, find: Find, shared: RawConfig | None = None
) -> RawConfig:
    """Return the raw configuration of a recipe, merged over ``shared`` and over its base."""
    tables: dict[str, Table] = {}
    faults: list[Fault] = []
    for key, raw in document.items():
        if key == "extends":
            continue
        origin = places.of(key)
        if isinstance(raw, dict) and "extends" in raw:
            where = "directly below its [[stage]]" if places.prefix else "at the top of the file"
            message = f"it stands in [{key}], and belongs {where}, before the first table"
            faults.append(Fault("G2-004", places.of(f"{key}.extends"), "extends", message))
        if key not in TABLES:
            noun = "table" if isinstance(raw, dict) else "key outside of a table"
            hint = trainer.hint(key) or did_you_mean(key, TABLES)
            message = f"unknown {noun}{hint}"
            faults.append(Fault("G2-102", origin, key, message))
        elif not isinstance(raw, dict):
            faults.append(Fault("G2-201", origin, key, f"expected a table [{key}], found {raw!r}"))
        else:
            fields = {
                field: Value(_read(value, f"{key}.{field}", places), places.of(f"{key}.{field}"))
                for field, value in raw.items()
                if field != "extends"
            }
            tables[key] = Table(origin, fields)
    draft = RawConfig(tables, tuple(faults))
    if shared:
        draft = draft.over(shared)
    if "extends" not in document:
        return draft
    return draft.over(_base(document["extends"], places.of("extends"), places.file, find))


def _read(raw: Any, key: str, places: _Places) -> Any:
    """Return a value of a file; a date without quotes becomes text if the key takes text."""
    worded = places.worded(raw)
    return worded if any(rule.typed(worded) for rule in _rules(key)) else raw


def _dates(text: str) -> dict[tuple[type, str], str]:
    """Return the text of each date and time of a document, unless it is written in two ways.

    TOML's parser loses the notation, and a name may be ``2024-05-01 10:00:00Z``.
    """
    written: dict[tuple[type, str], str | None] = {}
    for match in _DATE.finditer(text):
        with suppress(tomllib.TOMLDecodeError):
            raw = tomllib.loads(f"date = {match[0]}")["date"]
            key = (type(raw), str(raw))
            written[key] = match[0] if written.get(key, match[0]) == match[0] else None
    return {key: words for key, words in written.items() if words}


def overrides(settings: tuple[str, ...]) -> RawConfig:
    """Return the raw configuration of ``--set table.key=value``; other than TOML is a string."""
    assigned, faults = parse_settings(settings)
    draft = values(assigned)
    return RawConfig(draft.tables, (*faults, *draft.faults))


def parse_settings(settings: tuple[str, ...]) -> tuple[dict[str, Value], list[Fault]]:
    """Return key → value of each ``--set``, and the faults of malformed ones."""
    assigned: dict[str, Value] = {}
    faults = []
    for setting in settings:
        key, equals, written = setting.partition("=")
        if equals:
            name = key.strip()
            try:
                assigned[name] = Value(_written(written.strip(), _rules(name)), "--set")
            except ValueError as error:
                faults.append(Fault("G2-201", "--set", name, str(error)))
        else:
            message = "expected table.key=value, as in optim.lr=3e-4"
            faults.append(Fault("G2-201", "--set", setting, message))
    return assigned, faults


def values(assigned: Mapping[str, Value]) -> RawConfig:
    """Return the raw configuration of single values by ``table.key``."""
    tables: dict[str, dict[str, Value]] = {}
    faults = []
    for key, value in assigned.items():
        table, _, field = key.partition(".")
        if table in TABLES and field:
            tables.setdefault(table, {})[field] = value
        else:
            names = [f"{cls.table}.{key}" for cls in owners(key)]
            suggestion = f": {' or '.join(names)}" if names else ""
            nearby = trainer.hint(key) or did_you_mean(table, TABLES)
            hint = suggestion or f", with a table of a part{nearby}"
            message = f"expected table.key{hint}"
            faults.append(Fault("G2-102", value.origin, key, message))
    return RawConfig({name: Table("", fields) for name, fields in tables.items()}, tuple(faults))


def read_file(path: Path, name: str, find: Find) -> RawConfig | ChainDrafts:
    """Return the same as ``read_text``, for a file; raise SpecError if it is unreadable."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        message = f"is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        raise SpecError([Fault("G2-002", f"{name}:{line}", "", message)]) from None
    except OSError as error:
        raise SpecError([Fault("G2-002", name, "", f"can't be read: {error.strerror}")]) from None
    return read_text(text.removeprefix("\ufeff"), name, find)


def _base(raw: Any, origin: str, name: str, find: Find) -> RawConfig:
    if not isinstance(raw, str) or not raw:
        message = f"expected the name of a recipe or a file, found {raw!r}"
        return RawConfig({}, (Fault("G2-201", origin, "extends", message),))
    try:
        return find(raw, name)
    except SpecError as error:
        if _HAS_LINE.search(error.faults[0].origin):
            return RawConfig({}, error.faults)
        message = f"{raw!r} {error.faults[0].message}"
        return RawConfig({}, (Fault("G2-004", origin, "extends", message),))


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        at = _AT.search(message)
        line = int(at[1]) if at and at[1] else text.count("\n") + 1
        message = _AT.sub("", message).strip()
        origin = f"{name}:{line}"
        if first := _written_before(text, line):
            words = f"written twice; first at {name}:{first[1]}"
            raise SpecError([Fault("G2-003", origin, first[0], words)]) from None
        words = f"not valid TOML: {message}{_with_comma(text, line) or _unquoted(text, line)}"
        raise SpecError([Fault("G2-001", origin, "", words)]) from None
    return document


def _with_comma(text: str, line: int) -> str:
    """Return advice on a number with a comma; "" if the line has another fault."""
    lines = text.splitlines()
    number = _COMMA.fullmatch(lines[line - 1]) if line <= len(lines) else None
    return f"; {comma(number[1])}" if number else ""


def _unquoted(text: str, line: int) -> str:
    """Return advice on a text without quotes; "" if the line has another fault."""
    lines = text.splitlines()
    bare = _BARE.fullmatch(lines[line - 1]) if line <= len(lines) else None
    if not bare:
        return ""
    if bare[2].lower() in ("true", "false"):
        return f"; truth values are lower case: {bare[1]} = {bare[2].lower()}"
    return f'; texts are written in quotes: {bare[1]} = "{bare[2]}"'


def _written_before(text: str, line: int) -> tuple[str, int] | None:
    """Return the name on ``line`` and the line of its first occurrence, if it is a duplicate."""
    seen: dict[str, int] = {}
    for key, at in statements(text):
        if at == line and key in seen:
            return key, seen[key]
        seen.setdefault(key, at)
    return None


def _rules(key: str) -> list[FieldRule]:
    """Return the rules of a key, one for each task that has it; [] for an unknown key."""
    table, _, field = key.rpartition(".")
    table = table.rpartition(".")[2]
    classes = TASKS.values() if table == "task" else filter(None, [TABLES.get(table)])
    return [rules[field] for part in classes if field in (rules := part.rules())]


def _written(text: str, rules: Sequence[FieldRule]) -> Any:
    """Return a command-line value: TOML, a looser number or the text, whichever the key accepts.

    A list or table of TOML is no text, also where the key accepts only text.

    Raises:
        ValueError: it has more than one value.
    """
    readings: list[Any] = []
    try:
        document = tomllib.loads(f"value = {text}")
        if len(document) > 1:
            raise ValueError("expected one value, found more in the lines after it")
        readings.append(document["value"])
    except tomllib.TOMLDecodeError:
        if _LOOSE.fullmatch(text):
            readings.append(float(text))
    if not (readings and isinstance(readings[0], list | dict)):
        readings.append(text)
    wanted = (reading for reading in readings if any(rule.typed(reading) for rule in rules))
    return next(wanted, readings[0])
