"""Writes the tables of toml.md, which are made from the parts themselves.

    .venv/bin/python docs/reference.py

A test fails where the page is not what this writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.parts import TABLES, TASKS, Part

PAGE = Path(__file__).parent / "toml.md"
MARK = "<!-- made by reference.py -->\n"


def page() -> str:
    """The page, with the tables as they should be."""
    head, _, _ = PAGE.read_text("utf-8").partition(MARK)
    return head + MARK + "\n".join(_reference()) + "\n"


def _reference() -> Iterator[str]:
    for table, part in TABLES.items():
        if table != "task":
            yield from _section(f"[{table}]", part)
    for name, task in TASKS.items():
        yield from _section(f'[task] kind = "{name}"', task)


def _section(heading: str, part: type[Part]) -> Iterator[str]:
    yield f"\n### `{heading}`\n"
    yield (part.__doc__ or "").partition("\n\n")[0] + "\n"
    yield "| key | default | accepts | meaning |"
    yield "|---|---|---|---|"
    for field, rule in zip(part.fields(), part.rules().values(), strict=True):
        yield f"| `{field.name}` | {_default(field)} | {rule.expected} | {rule.doc} |"


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if field.default in (None, "", ()):
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
