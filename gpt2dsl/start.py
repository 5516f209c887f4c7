"""Ctrl-C in the first moments of the command, while this package is imported."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def guard() -> None:
    """Have Ctrl-C end the process with one line, if it is the command: nothing has begun yet.

    The command's own handlers replace this one. Programs that import the package keep theirs.
    """
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _is_command() -> bool:
    """Return whether this process is ``gpt2dsl`` or ``python -m gpt2dsl``."""
    name = sys.argv[0] if sys.argv else ""
    by_module = name == "-m" and "gpt2dsl" in sys.orig_argv
    return by_module or os.path.basename(name) == "gpt2dsl"  # noqa: PTH119  # pathlib takes 10 ms


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # Python's form
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(1)
