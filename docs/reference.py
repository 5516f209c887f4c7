"""Write the tables of docs/ that are made from the code: parts, keys of files, rules of a resume.

    .venv/bin/python docs/reference.py

A test fails where a page is not what this writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.identity import rules
from gpt2dsl.identity.rules import Rule
from gpt2dsl.parts import TABLES, TASKS, Part
from gpt2dsl.schema.folder import FILES
from gpt2dsl.schema.safetensors_metadata import TABLE as METADATA
from gpt2dsl.weights.beside import TABLES as FILE_TABLES

DOCS = Path(__file__).parent
MARK = "<!-- made by reference.py -->\n"


def pages() -> dict[Path, str]:
    """Return every page that has tables, as it should be."""
    return {DOCS / name: _page(DOCS / name, tables) for name, tables in PAGES.items()}


def _page(path: Path, tables: Callable[[], Iterator[str]]) -> str:
    head, _, _ = path.read_text("utf-8").partition(MARK)
    return head + MARK + "\n".join(tables()) + "\n"


def _parts() -> Iterator[str]:
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


def _resume() -> Iterator[str]:
    words = {"equal": "must be equal", "differ": "may differ", "no effect": "has no effect"}
    yield "| what | at a resume | why, and what is kept |"
    yield "|---|---|---|"
    for names, kind in (
        (rules.VALUES, ""),
        (rules.PARTS, "other keys of "),
        (rules.CONTENTS, "contents of "),
    ):
        for name, rule in names.items():
            yield f"| {kind}`{name}` | {words[rule.kind]} | {rule.words} |"
    other: Rule = rules.OTHER_CONTENTS
    yield f"| contents of every other input | {words[other.kind]} | {other.words} |"


def _files() -> Iterator[str]:
    yield "\n## Files\n"
    yield "| name | fate | |"
    yield "|---|---|---|"
    for pattern, row in FILES:
        yield f"| `{pattern}` | {row.fate} | {row.words} |"
    for name, table in {**FILE_TABLES, "metadata of .safetensors": METADATA}.items():
        if not table:
            continue  # its keys are tokens
        yield f"\n## {name}\n"
        yield "| key | fate | |"
        yield "|---|---|---|"
        for key, row in table.items():
            yield f"| `{key}` | {row.fate} | {row.words} |"


PAGES = {"toml.md": _parts, "recipes.md": _resume, "files.md": _files}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
