"""Write what README and docs/ show of the code: tables of parts, files and rules, plans, faults.

    .venv/bin/python docs/reference.py

A test fails where a page is not what this writes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from click.testing import CliRunner

from gpt2dsl.cli.main import cli
from gpt2dsl.identity import rules
from gpt2dsl.identity.rules import ResumeRule
from gpt2dsl.parts import TABLES, TASKS, Part, trainer
from gpt2dsl.schema.folder import FILES
from gpt2dsl.schema.safetensors_metadata import TABLE as METADATA
from gpt2dsl.weights.beside import TABLES as FILE_TABLES

DOCS = Path(__file__).parent
MARK = "<!-- made by reference.py -->\n"


def pages() -> dict[Path, str]:
    """Return every page of which a part is made, as it should be."""
    made = {DOCS / name: _page(DOCS / name, tables) for name, tables in PAGES.items()}
    made |= {page: _with_outputs(page.read_text("utf-8")) for page in WITH_OUTPUTS}
    page = DOCS / "from-trainer.md"
    rows = "\n".join(_trainer())
    return made | {
        page: ARGUMENTS.sub(lambda mark: f"{mark[1]}{rows}\n\n", page.read_text("utf-8"))
    }


def _with_outputs(page: str) -> str:
    """Return a page with what its blocks before each mark print, in an empty folder and cache."""
    return OUTPUT.sub(_output, page)


def _output(mark: re.Match[str]) -> str:
    shown = OUTPUTS[mark["kind"]](mark.string[: mark.start()], mark["block"])
    return f"{mark['head']}{shown}```\n"


def _plan(before: str, _: str) -> str:
    """Return the plan of the recipe that the last block of Python makes."""
    scope: dict[str, Any] = {}
    with _clean_folder():
        exec(PYTHON.findall(before)[-1], scope)  # noqa: S102
        return f"{scope['recipe'].plan()}\n"


def _commands(before: str, block: str) -> str:
    """Return the commands of a block and what they print, with the files that stand before it."""
    shown = []
    with _clean_folder():
        for name, text in FILE.findall(before):
            Path(name).write_text(text)
        for line in re.findall(r"^\$ gpt2dsl .*\n", block, re.MULTILINE):
            shown += [line, CliRunner().invoke(cli, shlex.split(line)[2:]).output]
    return "".join(shown)


@contextlib.contextmanager
def _clean_folder() -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"GPT2DSL_CACHE": folder}),
    ):
        here = Path.cwd()
        os.chdir(folder)  # contextlib.chdir is of Python 3.11
        try:
            yield
        finally:
            os.chdir(here)


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


def _trainer() -> Iterator[str]:
    yield "| TrainingArguments | here | differs |"
    yield "|---|---|---|"
    for argument in trainer.ARGUMENTS:
        names = ", ".join(f"`{name}`" for name in argument.names)
        yield f"| {names} | {argument.here or 'none'} | {argument.differs} |"


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
    other: ResumeRule = rules.OTHER_CONTENTS
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


OUTPUT = re.compile(
    r"(?P<head><!-- made by reference.py: (?P<kind>\w+)[^\n]* -->\n```\w*\n)(?P<block>.*?)^```\n",
    re.MULTILINE | re.DOTALL,
)
ARGUMENTS = re.compile(
    r"(<!-- made by reference.py: TrainingArguments -->\n\n)\|.*?\n\n", re.DOTALL
)
FILE = re.compile(r'^```\w+ title="(.+?)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
OUTPUTS: dict[str, Callable[[str, str], str]] = {"plan": _plan, "commands": _commands}
WITH_OUTPUTS = [
    DOCS.parent / "README.md",
    DOCS.parent / "README.zh.md",
    DOCS / "index.md",
    DOCS / "index.zh.md",
    DOCS / "troubleshooting.md",
]

PAGES = {"toml.md": _parts, "recipes.md": _resume, "files.md": _files}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
