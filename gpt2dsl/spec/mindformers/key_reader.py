"""Keys of a MindFormers configuration, read one by one, with the fate of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from gpt2dsl.errors import Fault
from gpt2dsl.spec.mindformers import names
from gpt2dsl.spec.mindformers.document import ConfigEntry

CARRIED = "carried over"


@attrs.frozen
class ImportedKey:
    """A key of the configuration with its fate: carried over, no effect or no counterpart.

    ``words`` are the target in the recipe, or the reason that there is none.
    """

    entry: ConfigEntry
    fate: str
    words: str


class KeyReader:
    """Reader that moves values to the tables of a recipe and records each key's fate.

    Attributes:
        entries: entries of the configuration, by key.
        tables: tables of the recipe.
        lines: fates of the keys that were read.
        faults: values that can't be carried over.
        asked: keys that were asked for, present or not.
    """

    def __init__(self, entries: dict[str, ConfigEntry]) -> None:
        self.entries = entries
        self.tables: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, ImportedKey] = {}
        self.faults: list[Fault] = []
        self.asked: set[str] = set()

    def take(self, key: str, default: Any = None, words: str = "") -> Any:
        """Return a value and record its key as carried over."""
        self.asked.add(key)
        if (entry := self.entries.get(key)) is None:
            return default
        self.lines[key] = ImportedKey(entry, CARRIED, words)
        return entry.value

    def put(self, where: str, value: Any) -> None:
        table, _, name = where.partition(".")
        self.tables.setdefault(table, {})[name] = value

    def move(self, key: str, where: str, of: Callable[[Any], Any] = lambda value: value) -> Any:
        """Move a value to the recipe, converted by ``of``, and return it."""
        value = self.take(key, words=where)
        if key in self.entries:
            value = of(value)
            self.put(where, value)
        return value

    def choice(self, key: str, names_here: Mapping[str, str], default: str, where: str) -> str:
        """Return the recipe's name for one of MindFormers' names."""
        name = self.take(key, None, words=where)
        if name is None:
            return default
        if not isinstance(name, str) or name not in names_here:
            self.faults.append(names.outside(self.entries[key], names_here))
            return default
        return names_here[name]

    def number(self, key: str, default: float, words: str = "") -> Any:
        """Return a number, also from text, which YAML reads ``1e-5`` as."""
        value = self.take(key, default, words)
        try:
            number = float(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if number is value is default or type(number) in (int, float):
            return number
        message = f"expected a number, found {value!r}"
        self.faults.append(Fault("G2-201", self.entries[key].origin, key, message))
        return default

    def note(self, key: str, fate: str, words: str) -> None:
        self.asked.add(key)
        if key in self.entries:
            self.lines[key] = ImportedKey(self.entries[key], fate, words)
