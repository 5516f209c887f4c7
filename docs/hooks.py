"""Run by mkdocs: puts the reference of all parts, made from the parts themselves, into toml.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from gpt2dsl.parts import TABLES, TASKS, Part

MARK = "<!-- parts -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Mkdocs calls this with each page's text."""
    return markdown.replace(MARK, "\n".join(_reference())) if MARK in markdown else markdown


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
