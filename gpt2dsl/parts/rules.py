"""Rules of the fields of parts: type, range, and their description."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time
from typing import Any

import attrs

from gpt2dsl.errors import did_you_mean
from gpt2dsl.parts.values import Patterns, as_written, comma

RULE = "gpt2dsl.rule"
PART = "gpt2dsl.part"
"""Key of the metadata with the class of a field that holds a part."""

LARGEST = 2**63 - 1
"""Largest integer of TOML, which has 64 bits."""


@attrs.frozen
class FieldRule:
    """Rule of a field.

    Attributes:
        expected: description of valid values, after "expected".
        typed: whether a value has the right type.
        fits: whether a value of the right type is in range.
        doc: meaning of the field, with its unit.
        options: values of a choice.
        cure: returns the end of the message on a value that is out of range.
        several: the end of the message on a list: how one value names several.
    """

    expected: str
    typed: Callable[[object], bool]
    fits: Callable[[Any], bool]
    doc: str
    required: bool = False
    options: tuple[str, ...] = ()
    cure: Callable[[Any], str] = lambda _: ""
    several: str = ""

    def problem(self, value: object) -> tuple[str, str] | None:
        """Return code and message of the fault of ``value``; None if it is valid."""
        shown = as_written(value)
        if not self.typed(value):
            description = "a boolean" if isinstance(value, bool) else _TYPES.get(type(shown), "")
            description = f"{description} {shown!r}".strip()
            if isinstance(value, date | time):
                description = f"the date {value}, without quotes"
            hint = f"; {self.several}" if self.several and isinstance(shown, list) else ""
            if isinstance(value, str) and _COMMA.fullmatch(value) and self.typed(1):
                hint = f"; {comma(value)}"
            return "G2-201", f"expected {self.expected}, found {description}{hint}"
        if not self.fits(value):
            hint = did_you_mean(value, self.options) if isinstance(value, str) else ""
            return "G2-202", f"expected {self.expected}, found {shown!r}{hint}{self.cure(value)}"
        return None


_COMMA = re.compile(r"[+-]?\d+(,\d+)+([eE][+-]?\d+)?")
"""A number with a comma."""

_TYPES = {
    str: "the string",
    int: "the integer",
    float: "the number",
    list: "the list",
    dict: "the table",
}


def integer(
    doc: str, *, default: int | None, low: int = 0, high: int = LARGEST, optional: bool = False
) -> Any:
    """Return a field for an integer from ``low`` to ``high``, or None if ``optional``."""
    bounds = (
        f"an integer of at least {low}" if high == LARGEST else f"an integer from {low} to {high}"
    )
    rule = FieldRule(
        bounds,
        lambda value: (optional and value is None) or (type(value) is int),
        lambda value: value is None or low <= value <= high,
        doc,
    )
    return attrs.field(default=default, metadata={RULE: rule})


def number(
    doc: str,
    *,
    default: float | None,
    low: float = 0.0,
    high: float = math.inf,
    above: bool = False,
    below: bool = False,
    optional: bool = False,
) -> Any:
    """Return a field for a finite number; ``above`` and ``below`` exclude the bounds."""
    words = f"{'above' if above else 'of at least'} {low:g}"
    if high < math.inf:
        words += f" and {'below' if below else 'at most'} {high:g}"

    def fits(value: float | None) -> bool:
        if value is None:
            return True
        if not _is_finite(value):
            return False
        return (value > low if above else value >= low) and (
            value < high if below else value <= high
        )

    rule = FieldRule(
        f"a number {words}",
        lambda value: (optional and value is None) or type(value) in (int, float),
        fits,
        doc,
    )
    return attrs.field(default=default, metadata={RULE: rule})


def steps_or_share(doc: str, *, default: float) -> Any:
    """Return a field for a number of steps, or a fraction below 1 of all steps."""
    rule = FieldRule(
        "a whole number of steps, or a fraction below 1",
        lambda value: type(value) in (int, float),
        lambda value: 0 <= value < LARGEST and (value < 1 or value == int(value)),
        doc,
    )
    return attrs.field(default=default, metadata={RULE: rule})


def flag(doc: str, *, default: bool) -> Any:
    rule = FieldRule("true or false", lambda value: type(value) is bool, lambda _: True, doc)
    return attrs.field(default=default, metadata={RULE: rule})


def flag_or(word: str, doc: str, *, default: bool) -> Any:
    """Return a field for a boolean or one word."""
    rule = FieldRule(
        f"true, false or {word!r}",
        lambda value: type(value) in (bool, str),
        lambda value: type(value) is bool or value == word,
        doc,
        options=(word,),
    )
    return attrs.field(default=default, metadata={RULE: rule})


def choice(options: Sequence[str], doc: str, *, default: str) -> Any:
    rule = FieldRule(
        f"one of {', '.join(filter(None, options))}",
        lambda value: type(value) is str,
        lambda value: value in options,
        doc,
        options=tuple(options),
    )
    return attrs.field(default=default, metadata={RULE: rule})


def text(doc: str, *, default: str | None = None, empty: bool = True, several: str = "") -> Any:
    """Return a field for a string or a path; it is required if it has no default."""
    rule = FieldRule(
        "a string" if empty else "a string that is not empty",
        lambda value: type(_path_as_text(value)) is str,
        lambda value: _is_unicode(_path_as_text(value)) and (empty or value != ""),
        doc,
        required=default is None,
        several=several,
    )
    field_default = attrs.NOTHING if default is None else default
    return attrs.field(default=field_default, converter=_path_as_text, metadata={RULE: rule})


def size(doc: str, *, default: str) -> Any:
    """Return a field for a size, such as ``5GB`` or ``200MB``; :func:`bytes_of` converts it.

    The size may be empty if ``default`` is.
    """
    rule = FieldRule(
        "a size such as 5GB or 200MB",
        lambda value: type(value) is str,
        lambda value: (
            (not value and not default) or (bool(_SIZE.fullmatch(value)) and bytes_of(value) > 0)
        ),
        doc,
    )
    return attrs.field(default=default, metadata={RULE: rule})


def bytes_of(text: str) -> int:
    """Return a size in bytes; units are powers of 1000, as in transformers."""
    match = _SIZE.fullmatch(text)
    assert match is not None
    return int(float(match[1]) * 1000 ** ("KMGT".index(match[2].upper()) + 1))


_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([KMGTkmgt])[Bb]")


def column(doc: str, *, default: str, several: str = "") -> Any:
    """Return a field for a column of a table: its name, or its number from 0.

    Args:
        doc: meaning of the field.
        default: name of the column.
        several: the end of the message on a list of columns.
    """
    rule = FieldRule(
        "a column's name, or in csv and tsv its number from 0",
        lambda value: type(value) in (str, int),
        lambda value: 0 <= value <= LARGEST if isinstance(value, int) else bool(value),
        doc,
        several=several,
    )
    return attrs.field(default=default, metadata={RULE: rule})


def texts(doc: str, *, default: Sequence[str] | None = None, or_path: bool = False) -> Any:
    """Return a field for a tuple of strings, or for a file's path if ``or_path``."""
    rule = FieldRule(
        "a list of strings" + (", or a file's path" if or_path else ""),
        lambda value: _is_list_of_text(value) or (or_path and type(_path_as_text(value)) is str),
        lambda value: bool(value) and all(map(_is_unicode, _path_as_text(value))),
        doc,
        required=default is None,
    )
    return attrs.field(
        default=attrs.NOTHING if default is None else default,
        converter=_frozen_list,
        metadata={RULE: rule},
    )


def whole_numbers(
    doc: str, *, default: Sequence[int], empty: bool = False, single: bool = False
) -> Any:
    """Return a field for a tuple of integers from 0; a ``single`` one is accepted, too."""
    rule = FieldRule(
        f"{'an integer or ' if single else ''}a list of integers of at least 0",
        lambda value: _are_integers(value) or (single and type(value) is int),
        lambda value: (empty or value not in ([], ())) and all(map(_is_id, _listed(value))),
        doc,
    )
    return attrs.field(default=default, converter=_listed, metadata={RULE: rule})


def sequences(doc: str, *, default: tuple[()]) -> Any:
    """Return a field for a tuple of tuples of integers from 0."""
    rule = FieldRule(
        "a list of lists of integers of at least 0, none empty",
        lambda value: isinstance(value, list | tuple) and all(map(_are_integers, value)),
        lambda value: all(len(ids) > 0 and all(map(_is_id, ids)) for ids in value),
        doc,
    )
    return attrs.field(default=default, converter=_frozen_lists, metadata={RULE: rule})


def weighted_sequences(doc: str, *, default: tuple[()]) -> Any:
    """Return a field for pairs of a list of integers from 0 and a finite number."""

    def is_pair(value: object) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) == 2
            and _are_integers(value[0])
            and type(value[1]) in (int, float)
        )

    rule = FieldRule(
        "a list of pairs [[integers of at least 0], finite number]",
        lambda value: isinstance(value, list | tuple) and all(map(is_pair, value)),
        lambda value: all(
            len(ids) > 0 and all(map(_is_id, ids)) and _is_finite(weight) for ids, weight in value
        ),
        doc,
    )
    return attrs.field(default=default, converter=_frozen_lists, metadata={RULE: rule})


def start_and_factor(doc: str, *, default: tuple[()]) -> Any:
    """Return a field for a pair of an integer from 0 and a number above 0, or for none."""
    rule = FieldRule(
        "a pair of an integer of at least 0 and a number above 0, or an empty list",
        lambda value: (
            isinstance(value, list | tuple)
            and (
                len(value) == 0
                or (len(value) == 2 and type(value[0]) is int and type(value[1]) in (int, float))
            )
        ),
        lambda value: (
            len(value) == 0 or (_is_id(value[0]) and _is_finite(value[1]) and value[1] > 0)
        ),
        doc,
    )
    return attrs.field(default=default, converter=_frozen_list, metadata={RULE: rule})


def labels(doc: str, *, default: int) -> Any:
    """Return a field for a number of classes, or a tuple of their names."""
    rule = FieldRule(
        "a number of classes of at least 2, or a list of at least 2 different names, none empty",
        lambda value: type(value) is int or _is_list_of_text(value),
        lambda value: (
            2 <= value <= LARGEST
            if isinstance(value, int)
            else len(set(value)) == len(value) >= 2
            and all(name.strip() and _is_unicode(name) for name in value)
        ),
        doc,
    )
    return attrs.field(default=default, converter=_frozen_list, metadata={RULE: rule})


def patterns(doc: str, *, default: Mapping[str, float], integers: bool) -> Any:
    """Return a field for regexes and numbers above 0, of which the first match counts."""
    kinds = (int,) if integers else (int, float)
    rule = FieldRule(
        f"a table of regexes and {'integers of at least 1' if integers else 'numbers above 0'}",
        lambda value: (
            isinstance(value, dict)
            and all(type(key) is str and type(item) in kinds for key, item in value.items())
        ),
        lambda value: all(_is_unicode(key) and 0 < item <= LARGEST for key, item in value.items()),
        doc,
    )
    return attrs.field(default=Patterns(default), converter=_frozen_table, metadata={RULE: rule})


_REQUIRED: Any = object()


def nested(part: type, doc: str, *, default: None = _REQUIRED) -> Any:
    """Return a field for another part; it is required if it has no default."""
    required = default is _REQUIRED
    rule = FieldRule(
        f"a {part.__name__}",
        lambda value: isinstance(value, part) or (not required and value is None),
        lambda _: True,
        doc,
        required=required,
    )
    field_default = attrs.NOTHING if required else None
    return attrs.field(default=field_default, metadata={RULE: rule, PART: part})


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list | tuple) and all(type(item) is str for item in value)


def _are_integers(value: object) -> bool:
    return isinstance(value, list | tuple) and all(type(item) is int for item in value)


def _is_id(value: int) -> bool:
    return 0 <= value <= LARGEST


def _is_finite(value: float) -> bool:
    return abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)


def _is_unicode(value: str) -> bool:
    """Return whether a string has no lone surrogates, which no file can have."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _frozen_table(value: Any) -> Any:
    return Patterns(value) if isinstance(value, dict) else value


def _path_as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _frozen_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else _path_as_text(value)


def _frozen_lists(value: Any) -> Any:
    """Return nested lists as nested tuples."""
    return tuple(map(_frozen_lists, value)) if isinstance(value, list | tuple) else value


def _listed(value: Any) -> Any:
    """Return a list as a tuple, and an integer as a tuple of one."""
    return (value,) if type(value) is int else _frozen_list(value)
