"""Line numbers of the keys of a JSON object."""

from __future__ import annotations

import json
import re

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]\n:]', re.DOTALL)


def lines_of(text: str) -> dict[str, int]:
    """Return each key of the outermost object → its line; the last of duplicate keys counts."""
    lines: dict[str, int] = {}
    line, depth = 1, 0
    last = ("", 0)
    for match in _TOKEN.finditer(text):
        sign = match[0]
        if sign == "\n":
            line += 1
        elif sign in "{[":
            depth += 1
        elif sign in "}]":
            depth -= 1
        elif sign != ":":
            last = (sign, line)
        elif depth == 1 and last[0]:
            lines[json.loads(last[0], strict=False)] = last[1]
    return lines
