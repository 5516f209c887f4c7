"""Pages of the manual whose blocks are run as they stand, one after another."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gpt2dsl.cli.main import cli
from tests import shell_pages

DOCS = Path(__file__).parents[1] / "docs"


def command(line: str, *settings: str) -> None:
    """A command of a page, in this process; settings are laid over its recipe."""
    words = shlex.split(line)
    assert words[0] == "gpt2dsl"
    words += [word for setting in settings for word in ("--set", setting)]
    try:
        code = cli.main(words[1:], standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    assert not code, line


def run(name: str, here: Mapping[str, str], settings: Mapping[str, tuple[str, ...]]) -> int:
    """Runs each block of a page; ``sh`` and ``console`` are commands, ``toml`` with a title a file.

    Args:
        name: of the page.
        here: what is written on it, and what stands for that here.
        settings: word of a command → settings that are laid over it.

    Returns:
        How many commands there were.
    """
    page = (DOCS / name).read_text("utf-8")
    for written, small in here.items():
        page = page.replace(written, small)
    scope: dict[str, Any] = {}
    count = 0
    for block in shell_pages.blocks_of(page):
        if block.language == "toml":
            Path(block.title).write_text(block.content)
        elif block.language == "python":
            exec(compile(block.content, name, "exec"), scope)  # noqa: S102
        for line, _ in block.commands():
            over = [said for word, said in settings.items() if word in line.split()[2]]
            command(line, *(one for said in over for one in said))
            count += 1
    return count
