"""Parts → TOML text, through tomli-w."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tomli_w

from gpt2dsl.parts import Part, Task


def to_toml(parts: Iterable[Part]) -> str:
    """One table a part, with the values that are not defaults. Reads back as equal parts."""
    document = {part.table: _table(part) for part in parts}
    return tomli_w.dumps(document, multiline_strings=False)


def _table(part: Part) -> dict[str, Any]:
    kind = {"kind": part.name} if isinstance(part, Task) else {}
    return {**kind, **{name: _plain(value) for name, value in part.changed().items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return _table(value)
    return list(value) if isinstance(value, tuple) else value
