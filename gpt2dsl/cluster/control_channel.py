"""What a launcher tells the supervisor of a machine through its stdin: ssh passes on no signals."""

from __future__ import annotations

import math
import os
import stat
import sys
import time

from gpt2dsl.signals import Signals

STOP = b"stop"
"""As the first Ctrl-C: after the step that is under way, with a checkpoint."""

END = b"end"
"""As the second: at once."""

GRACE = 15.0
"""Seconds between the one and the other when the launcher is gone."""


class ControlChannel:
    """Counts words, a line each, as the signals that they stand for."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._rest = b""
        self._until = math.inf

    def take(self, chunk: bytes) -> None:
        """The next bytes; none when the launcher is gone."""
        if not chunk:
            self._ask(1)
            self._until = time.monotonic() + GRACE
        *words, self._rest = (self._rest + chunk).split(b"\n")
        for word in words:
            self._ask({STOP: 1, END: 2}.get(word, 0))

    def insist(self) -> None:
        """Stop at once if the grace has passed."""
        if time.monotonic() > self._until:
            self._ask(2)

    def _ask(self, times: int) -> None:
        self._signals.count = max(self._signals.count, times)


def from_stdin() -> int | None:
    """Return the pipe of a launcher, None where stdin is a terminal or a file."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return os.dup(sys.stdin.fileno()) if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None
