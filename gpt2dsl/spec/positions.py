"""Line numbers of a TOML document's tables and keys, which tomllib doesn't report.

The text is known to be valid TOML (https://toml.io/en/v1.0.0), so the scan need only find where
statements begin and skip over values.
"""

from __future__ import annotations

import regex

_SKIP = regex.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*''',
    regex.DOTALL,
)
_KEY = regex.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+""")


def positions(text: str) -> dict[str, int]:
    """Return dotted name of each table and key → line, from 1; of a duplicate its first line.

    Below ``[[stage]]`` names begin with the number of the stage: ``stage.2.train.steps``.
    """
    lines: dict[str, int] = {}
    for name, line in statements(text):
        lines.setdefault(name, line)
    return lines


def statements(text: str) -> list[tuple[str, int]]:
    """Return dotted name and line of each table header and each key, without inline tables."""
    names: list[tuple[str, int]] = []
    arrays: dict[str, int] = {}
    table = ""
    at = 0
    while at < len(text):
        character = text[at]
        if character in " \t\r\n":
            at += 1
            continue
        if character == "#":
            at = _line_end(text, at)
            continue
        line = text.count("\n", 0, at) + 1
        if character == "[":
            end = _line_end(text, at)
            table = _dotted(text[at:end].partition("#")[0])
            if text.startswith("[[", at):
                arrays[table] = arrays.get(table, 0) + 1
            array, _, below = table.partition(".")
            if array in arrays:
                table = ".".join(filter(None, (array, str(arrays[array]), below)))
            names.append((table, line))
            at = end
            continue
        end = _equals(text, at)
        name = _dotted(text[at:end])
        names.append((f"{table}.{name}" if table else name, line))
        at = _value_end(text, end + 1)
    return names


def _dotted(words: str) -> str:
    return ".".join(part.strip("\"'") for part in _KEY.findall(words))


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _equals(text: str, at: int) -> int:
    while at < len(text) and text[at] != "=":
        quoted = _SKIP.match(text, at)
        at = quoted.end() if quoted else at + 1
    return at


def _value_end(text: str, at: int) -> int:
    """Return the end of the line on which the value that starts at ``at`` ends."""
    depth = 0
    while at < len(text):
        if skipped := _SKIP.match(text, at):
            at = skipped.end()
            continue
        character = text[at]
        if character == "\n" and depth == 0:
            return at
        depth += (character in "[{") - (character in "]}")
        at += 1
    return at
