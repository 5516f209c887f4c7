"""Commands run in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection


def gpt2dsl(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A command that must end with a code."""
    command = [sys.executable, "-m", "gpt2dsl", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def imported(words: list[str], among: Collection[str]) -> tuple[int, set[str]]:
    """A command's exit code, and which of some modules were imported when it ended."""
    code = (
        "import json, sys, gpt2dsl.cli.main as m\n"
        f"sys.argv = ['gpt2dsl', *{words!r}]\n"
        "code = 0\n"
        "try: m.main()\n"
        "except SystemExit as stop: code = stop.code or 0\n"
        f"found = sorted(set(sys.modules) & {set(among)!r})\n"
        "print('\\n' + json.dumps([code, found]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    status, found = json.loads(done.stderr.splitlines()[-1])
    return status, set(found)
