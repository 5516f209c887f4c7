"""First row of a csv or tsv: positions of columns, or an error with the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gpt2dsl.data.form import Column, DataFormat
from gpt2dsl.schema.fate import shown

SEPARATORS = {"csv": ",", "tsv": "\t"}

_LISTED = 8
"""Maximum number of columns listed in a message."""

_JSON = re.compile(r"[\[{]\s*([\[{\"]|$)")

_NAME = re.compile(r"\s*[^\W\d][\w .:/()-]{0,29}\s*")
"""Matches a column's name, but not a number or a long text."""


def listed(names: Iterable[object]) -> str:
    """Return the first column names for a message, each shortened."""
    known = list(names)
    others = f", and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return ", ".join(map(shown, known[:_LISTED])) + others


def refuse_json(line: str) -> None:
    """Refuse a header that is JSON.

    Raises:
        ValueError: the line is JSON; the message includes the remedy.
    """
    text = line.strip()
    if not _JSON.match(text):
        return
    cure = 'say data.format = "jsonl"'
    if not (text.startswith("{") and text.endswith("}")):
        cure = f"write each of its objects in a line of its own, as a .jsonl, and {cure}"
    raise ValueError(f"its first line is JSON, no header: {cure}")


def places(wanted: Mapping[str, Column], first: list[str], form: DataFormat) -> list[int]:
    """Return the indexes of the columns that keys of the recipe name.

    Raises:
        ValueError: the first row has no such column; the message includes the remedy.
    """
    return [_place(column, first, key, form, wanted) for key, column in wanted.items()]


def _place(
    column: Column, first: list[str], key: str, form: DataFormat, wanted: Mapping[str, Column]
) -> int:
    if isinstance(column, int):
        if column < len(first):
            return column
        cure = _other_separator(first, form, wanted) or f"{key} names the column"
        message = f"there is no column {column}: the first row has {len(first)}"
        raise ValueError(f"{message}; {cure}")
    if not form.header:
        message = f"without a header the column {column!r} must be a number, from 0"
        raise ValueError(f"{message}: {key}")
    if first.count(column) > 1:
        raise ValueError(f"the column {column!r} is there {first.count(column)} times")
    if column in first:
        return first.index(column)
    cure = _other_separator(first, form, wanted) or _no_header(first, key, wanted)
    raise ValueError(f"there is no column {column!r}, but {listed(first)}: {cure}")


def _other_separator(first: list[str], form: DataFormat, wanted: Mapping[str, Column]) -> str:
    """Return the remedy if another separator yields the columns; "" if none does."""
    line = SEPARATORS[form.format].join(first)
    for separator, cure in {
        "\t": 'tabs separate its columns: data.format = "tsv"',
        ",": 'commas separate its columns: data.format = "csv"',
        ";": "its separator is ';'; write it anew with commas, or with tabs as a tsv",
        "|": "its separator is '|'; write it anew with commas, or with tabs as a tsv",
    }.items():
        names = [name.strip(' "') for name in line.split(separator)]
        # A separator followed by a space, as in "Good film; bad end", is punctuation.
        is_split = len(first) == 1 and len(names) > 1 and _are_names(names) and _are_words(line)
        if separator != SEPARATORS[form.format] and (is_split or _has_all(names, wanted)):
            return cure
    return ""


def _has_all(names: list[str], wanted: Mapping[str, Column]) -> bool:
    return all(column in names for column in wanted.values())


def _no_header(first: list[str], key: str, wanted: Iterable[str]) -> str:
    numbers = f"data.header = false, and {' and '.join(wanted)} as numbers, from 0"
    if _are_names(first):
        return f"{key} names the column; if this is no header, {numbers}"
    return f"this seems to be no header: {numbers}; else {key} names the column"


def _are_names(values: list[str]) -> bool:
    """Return whether values look like column names: short and unique."""
    return len(set(values)) == len(values) and all(map(_NAME.fullmatch, values))


def _are_words(line: str) -> bool:
    """Return whether no separator in a line is followed by a space."""
    return not re.search(r"[,;|]\s", line)
