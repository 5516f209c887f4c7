"""The fate of a key: used, without effect here, refused, or unknown.

Each module of this package has the table of one file. Readers check a file against its table first,
so that no key is ignored silently; ``gpt2dsl inspect`` prints the fates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from gpt2dsl.errors import Fault, InputError

Fate = Literal["used", "no effect", "refused", "unknown"]
REFUSED = "G2-313"
LONGEST_VALUE = 60
"""Maximum characters of a value in a message."""


def any_value(value: Any) -> str:  # noqa: ARG001  # signature of all checks
    return ""


@attrs.frozen
class KeySpec:
    """What a table says of one key.

    Attributes:
        fate: used or no effect, for values that ``refusal`` accepts.
        words: its use, or the reason why it has no effect.
        refusal: returns what was expected and the remedy; "" for a value that is accepted.
    """

    fate: Fate
    words: str
    refusal: Callable[[Any], str] = attrs.field(default=any_value, repr=False)


Table = Mapping[str, KeySpec]


@attrs.frozen
class KeyFate:
    """The fate of one key of one file; nested keys are joined by dots."""

    path: Path
    key: str
    value: Any
    fate: Fate
    words: str

    def __str__(self) -> str:
        return f"{self.path.name}: {self.key} = {shown(self.value)}: {self.words}"


def used(words: str, refusal: Callable[[Any], str] = any_value) -> KeySpec:
    return KeySpec("used", words, refusal)


def no_effect(words: str, refusal: Callable[[Any], str] = any_value) -> KeySpec:
    return KeySpec("no effect", words, refusal)


def only(*accepted: Any, cure: str) -> Callable[[Any], str]:
    """Return a check that refuses all but the accepted values."""

    def refusal(value: Any) -> str:
        # 0 and False are equal in Python and in transformers' conditions alike.
        return "" if any(value == other for other in accepted) else cure

    return refusal


def expecting(words: str, accepts: Callable[[Any], bool]) -> Callable[[Any], str]:
    """Return a check that answers ``words`` for all but null and what ``accepts`` is true of."""
    return lambda value: "" if value is None or accepts(value) else words


def unset(cure: str) -> Callable[[Any], str]:
    """Return a check that refuses every true value, as transformers and PEFT test it."""
    return lambda value: cure if value else ""


def fates(path: Path, content: Mapping[str, Any], table: Table) -> Iterator[KeyFate]:
    """Yield the fate of each key of a file, in the file's order."""
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
    """Raise an error if any key is refused.

    Raises:
        InputError: it lists every refused key (G2-313).
    """
    faults = [
        Fault(REFUSED, "", str(key.path), f"{key.key} is {shown(key.value)}: {key.words}")
        for key in keys
        if key.fate == "refused"
    ]
    if faults:
        raise InputError.of(faults)


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
