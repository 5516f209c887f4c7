"""The commands of all pages run as they stand: in order, in a clean folder, with their output."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import attrs
import pytest

from gpt2dsl import Recipe
from tests import shell_pages

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh.md",
    # tests/cli/test_card.py has the weights and texts that the card needs
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "card.md"),
]
QUICK = [page for page in PAGES if shell_pages.has_commands(page, soak=False)]
LONG = [page for page in PAGES if shell_pages.has_commands(page, soak=True)]
COMMAND = re.compile(r"^(\$ )?(gpt2dsl|make|curl|pip|pipx|uv|python3?|wsl) ", re.MULTILINE)


@pytest.fixture(autouse=True)
def clean(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing but the shared specs, as a fresh clone has them, and no cache."""
    (elsewhere / "specs").symlink_to(ROOT / "specs")
    monkeypatch.setenv("GPT2DSL_CACHE", str(elsewhere / ".cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return elsewhere


@pytest.mark.parametrize("page", QUICK, ids=lambda page: page.name)
def test_what_takes_seconds_does_and_prints_what_the_page_says(page: Path) -> None:
    assert shell_pages.run(page, soak=False)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", LONG, ids=lambda page: page.name)
def test_all_of_a_page_does_and_prints_what_it_says(page: Path) -> None:
    assert shell_pages.run(page, soak=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_of_a_page_is_left_out_without_a_reason(page: Path) -> None:
    for block in shell_pages.blocks(page):
        if not block.language or COMMAND.search(block.content):
            runs = block.language in ("sh", "console") or block.mark("made by reference.py")
            assert runs or block.mark("not run"), block.content


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("README.zh.md", "README.md"),
        ("docs/index.zh.md", "docs/index.md"),
        ("docs/quickstart.zh.md", "docs/quickstart.md"),
    ],
)
def test_a_chinese_page_has_the_blocks_of_its_english_one(chinese: str, english: str) -> None:
    def blocks(name: str) -> list[shell_pages.Block]:
        return [
            attrs.evolve(block, content=re.sub(r"(^|\s+)# .*", "", block.content))
            for block in shell_pages.blocks(ROOT / name)
        ]

    assert blocks(chinese) == blocks(english)


def test_the_quickstarts_run_is_called_as_the_pages_call_it() -> None:
    digest = Recipe.load("specs/quickstart.toml").digest[:8]
    for page in PAGES:
        assert set(re.findall(r"quickstart-([0-9a-f]{8})", page.read_text("utf-8"))) <= {digest}


PRINTS = "$ printf '1\\n2\\n3\\n'\n"


@pytest.mark.parametrize(
    ("block", "right"),
    [
        (f"```console\n{PRINTS}1\n2\n3\n```", True),
        (f"```console\n{PRINTS}1\n...\n3\n```", True),
        (f"```console\n{PRINTS}...\n3\n...\n```", True),
        (f"<!-- varies: 9 -->\n```console\n{PRINTS}1\n9\n3\n```", True),
        (f"```console\n{PRINTS}1\n2\n```", False),
        (f"```console\n{PRINTS}1\n9\n3\n```", False),
        (f"```console\n{PRINTS}...\n2\n```", False),
        (f"<!-- varies: 8 -->\n```console\n{PRINTS}1\n9\n3\n```", False),
        ("```console\n$ echo 1 >&2\n1\n```", False),
        ("<!-- with stderr -->\n```console\n$ echo 1 >&2\n1\n```", True),
        ("```sh\nfalse\n```", False),
        ("<!-- exit 1 -->\n```sh\nfalse\n```", True),
        ("<!-- sh\necho 1 > a\n-->\n```console\n$ cat a\n1\n```", True),
        ("<!-- sh; soak\necho 1 > a\n-->\n```sh\ncat a\n```", False),
    ],
)
def test_a_page_fails_where_it_says_something_else(clean: Path, block: str, right: bool) -> None:
    page = clean / "page.md"
    page.write_text(f"{block}\n")
    with contextlib.nullcontext() if right else pytest.raises(AssertionError):
        assert shell_pages.run(page, soak=False)
