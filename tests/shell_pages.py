"""Pages that run as a reader would type them: their blocks in order, in one folder.

A block of ``sh`` is commands. One of ``console`` has commands after ``$``, and below each what it
prints on stdout, which is compared; a line of ``...`` there stands for any lines. A block with a
title is a file, one of ``text`` a drawing or a listing. A comment in its source, in the line before
a block, says more of it, with ``;`` between:

- ``soak``: it takes minutes, or needs what such a block leaves; ``make soak`` runs it.
- ``not run: WHY``.
- ``exit 2``: how its commands end.
- ``with stderr``: its output is that on stderr, too.
- ``with faults``: it is a spec that is refused.
- ``varies: A | B``: pieces of the output that another machine prints otherwise.

What readers need not see is a comment: ``<!-- file NAME`` begins the content of a file, and
``<!-- sh`` commands, with marks after a ``;``.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import attrs

_BLOCK = re.compile(
    r'(?:^<!-- ([^\n]+) -->\n)?^```(\w*)(?: title="(.+?)")?\n(.*?)^```', re.MULTILINE | re.DOTALL
)
_HIDDEN = re.compile(r"^<!-- (sh)(?:; ([^\n]+))?\n(.*?)^-->", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^<!-- file (\S+)\n(.*?)^-->", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """A block of a page.

    Attributes:
        marks: what the comment before it says.
        language: sh, console, toml, python, text, or "".
        title: of a file.
        content: its lines.
    """

    marks: tuple[str, ...]
    language: str
    title: str
    content: str

    def mark(self, name: str) -> str | None:
        """Return what follows a mark; None where it is not there."""
        for mark in self.marks:
            if mark == name or mark.startswith((f"{name}:", f"{name} ")):
                return mark[len(name) :].lstrip(": ")
        return None

    def commands(self) -> Iterator[tuple[str, str | None]]:
        """Yield each command, and its output where the page shows it."""
        if self.language == "sh":
            yield from ((line, None) for line in self.content.splitlines() if line.strip())
        elif self.language == "console":
            for part in re.split(r"^\$ ", self.content, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield command, output


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    return blocks_of(page.read_text("utf-8"))


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page's text, hidden commands included, in order."""
    seen = {match.start(): match.groups("") for match in _BLOCK.finditer(text)}
    for match in _HIDDEN.finditer(text):
        language, marks, content = match.groups("")
        seen[match.start()] = (marks, language, "", content)
    return [
        Block(tuple(filter(None, marks.split("; "))), language, title, content)
        for _, (marks, language, title, content) in sorted(seen.items())
    ]


def has_commands(page: Path, *, soak: bool) -> bool:
    """Return whether a page has commands that run in seconds, or in soak."""
    return any(
        any(block.commands())
        for block in blocks(page)
        if block.mark("not run") is None and (block.mark("soak") is not None) == soak
    )


def run(page: Path, *, soak: bool) -> int:
    """Run a page in the working directory; return how many commands there were.

    Args:
        page: its file.
        soak: whether blocks that take minutes run too.
    """
    for name, content in _FILE.findall(page.read_text("utf-8")):
        _write(name, content)
    count = 0
    with contextlib.ExitStack() as servers:
        for block in blocks(page):
            if block.mark("not run") is not None or (block.mark("soak") is not None and not soak):
                continue
            if block.title:
                _write(block.title, block.content)
            elif block.language == "python" and block.mark("soak") is not None:
                subprocess.run([sys.executable, "-c", block.content], check=True)
            for command, output in block.commands():
                if command.startswith("gpt2dsl serve ") and "--check" not in command:
                    servers.enter_context(_serving(command))
                else:
                    _run(block, command, output)
                count += 1
    return count


def _write(name: str, content: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content, "utf-8")


def _run(block: Block, command: str, expected: str | None) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{_FUNCTIONS}\n{command}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if block.mark("with stderr") is None else subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == int(block.mark("exit") or 0), f"{command}\n{done.stderr}"
    if expected is not None:
        words = (block.mark("varies") or "").split(" | ")
        pattern = "".join(map(_pattern, expected.splitlines(keepends=True)))
        for word in filter(None, words):
            assert word in block.content, f"{word} is marked, and not in the block"
            pattern = pattern.replace(re.escape(word), r".+?")
        assert re.fullmatch(pattern, done.stdout, re.DOTALL), f"{command}\n{done.stdout}"


def _pattern(line: str) -> str:
    """Return what a line of output is matched by."""
    return "(?:[^\n]*\n)*?" if line.strip() == "..." else re.escape(line)


_PYTHON = shlex.quote(sys.executable)
_SCRIPT = "import sys; from gpt2dsl.cli.main import main; sys.argv[0] = 'gpt2dsl'; main()"
_FUNCTIONS = f"""
gpt2dsl() {{ {_PYTHON} -c {shlex.quote(_SCRIPT)} "$@"; }}
python() {{ {_PYTHON} "$@"; }}
"""
"""The commands, whatever the PATH."""


@contextlib.contextmanager
def _serving(command: str) -> Iterator[None]:
    """Run a server until the page ends."""
    words = shlex.split(command)
    port = words[words.index("--port") + 1]
    process = subprocess.Popen([sys.executable, "-m", *words])
    try:
        while True:
            assert process.poll() is None, command
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://localhost:{port}/health/ready")
                break
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
