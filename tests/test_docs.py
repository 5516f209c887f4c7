from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Chain, Recipe
from gpt2dsl.errors import CODES
from tests import shell_pages

ROOT = Path(__file__).parents[1]
OWN_TESTS = ("card.md", "tutorial.md")  # in tests/cli, with the weights and texts that they need
PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in OWN_TESTS),
]


def examples(page: Path, language: str) -> list[str]:
    return [
        block.content
        for block in shell_pages.blocks(page)
        if block.language == language
        # those in tests/test_pages.py
        and block.mark("soak") is None
        and block.mark("not run") is None
        and block.mark("with faults") is None
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.usefixtures("elsewhere")
def test_python_examples_run(page: Path) -> None:
    scope: dict[str, Any] = {}
    for code in examples(page, "python"):
        exec(compile(code, str(page), "exec"), scope)  # noqa: S102


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_toml_examples_are_recipes_without_a_fault(page: Path) -> None:
    for text in examples(page, "toml"):
        if "[project" not in text:
            (Chain if "[[stage]]" in text else Recipe).from_toml(text, page.name)


def test_there_are_examples_to_run() -> None:
    assert sum(len(examples(page, "python")) for page in PAGES) > 5
    assert sum(len(examples(page, "toml")) for page in PAGES) > 3


def test_every_code_is_explained_and_no_other() -> None:
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| (G2-\d+) \| (.+?) \|", page, re.MULTILINE)
    assert dict(rows) == CODES


def test_the_tables_of_the_pages_are_those_of_the_code() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    for path, text in made["pages"]().items():
        assert path.read_text("utf-8") == text, f"{path.name}: run docs/reference.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_puts_a_copy_in_the_place_of_the_clone(page: Path) -> None:
    installs = re.findall(r"\bpip install [^`\n]*", page.read_text("utf-8"))
    assert [line for line in installs if re.search(r"\s'?\.(\[|'|\s|$)", line)] == [
        line for line in installs if re.search(r"-e '?\.", line)
    ]
