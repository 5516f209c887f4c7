"""The fate of a key: used, without effect here, refused by name, or unknown.

Each module beside this one has the table of one file. A reader asks its table before it uses a
file, so that no key is ignored without a word; ``gpt2dsl inspect`` prints what the tables say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from gpt2dsl.errors import Fault, InputError

Fate = Literal["used", "no effect", "refused", "unknown"]
REFUSED = "G2-306"
LONGEST_VALUE = 60
"""Characters of a value that a message shows."""


def any_value(value: Any) -> str:  # noqa: ARG001  # as every refusal is called
    """Refuse no value."""
    return ""


@attrs.frozen
class Key:
    """One row of a table.

    Attributes:
        fate: used or no effect, for values that ``refusal`` does not refuse.
        words: what it is used for, or why it has no effect.
        refusal: takes the value; returns what was expected and the cure, "" for a value that is
            accepted.
    """

    fate: Fate
    words: str
    refusal: Callable[[Any], str] = attrs.field(default=any_value, repr=False)


Table = Mapping[str, Key]


@attrs.frozen
class KeyFate:
    """The fate of one key of one file.

    Attributes:
        path: the file.
        key: its name in the file; of nested keys joined by dots.
        value: as the file has it.
        fate: used, no effect, refused or unknown.
        words: what it is used for, why it has no effect, or why it is refused.
    """

    path: Path
    key: str
    value: Any
    fate: Fate
    words: str

    def __str__(self) -> str:
        return f"{self.path.name}: {self.key} = {shown(self.value)}: {self.words}"


def used(words: str, refusal: Callable[[Any], str] = any_value) -> Key:
    """Return the row of a key that is used."""
    return Key("used", words, refusal)


def no_effect(words: str, refusal: Callable[[Any], str] = any_value) -> Key:
    """Return the row of a key that changes nothing here."""
    return Key("no effect", words, refusal)


def only(*accepted: Any, cure: str) -> Callable[[Any], str]:
    """Return a refusal of every value but those that leave things as they are."""

    def refusal(value: Any) -> str:
        # 0 and False are equal in Python and in transformers' conditions alike.
        return "" if any(value == other for other in accepted) else cure

    return refusal


def fates(path: Path, content: Mapping[str, Any], table: Table) -> Iterator[KeyFate]:
    """Yield what becomes of each key of a file, in the file's order."""
    for key, value in content.items():
        row = table.get(key)
        if row is None:
            words = "nobody knows this key; it is kept and not used"
            yield KeyFate(path, key, value, "unknown", words)
        elif message := row.refusal(value):
            yield KeyFate(path, key, value, "refused", message)
        else:
            yield KeyFate(path, key, value, row.fate, row.words)


def refuse(keys: Iterable[KeyFate]) -> None:
    """Refuse a file that asks for what is not built here.

    Raises:
        InputError: with every key that is refused (G2-306).
    """
    faults = [
        Fault(REFUSED, "", str(key.path), f"{key.key} is {shown(key.value)}: {key.words}")
        for key in keys
        if key.fate == "refused"
    ]
    if faults:
        raise InputError.of(faults)


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
