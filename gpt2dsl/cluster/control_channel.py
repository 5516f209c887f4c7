"""Control channel from a launcher to a supervisor's stdin, since ssh forwards no signals."""

from __future__ import annotations

import math
import os
import stat
import sys
import time

from gpt2dsl.signals import Signals

STOP = b"stop"
"""Stop after the current step, with a checkpoint, as the first Ctrl-C does."""

END = b"end"
"""Stop immediately, as the second Ctrl-C does."""

GRACE = 15.0
"""Seconds between the two when the launcher is gone."""


class ControlChannel:
    """Reader of the launcher's commands, one per line, which it counts as signals."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._rest = b""
        self._until = math.inf

    def take(self, chunk: bytes) -> None:
        """Take the next bytes; b"" means that the launcher is gone."""
        if not chunk:
            self._ask(1)
            self._until = time.monotonic() + GRACE
        *words, self._rest = (self._rest + chunk).split(b"\n")
        for word in words:
            self._ask({STOP: 1, END: 2}.get(word, 0))

    def insist(self) -> None:
        """Stop immediately if the grace period has passed."""
        if time.monotonic() > self._until:
            self._ask(2)

    def _ask(self, times: int) -> None:
        self._signals.count = max(self._signals.count, times)


def from_stdin() -> int | None:
    """Return the pipe from a launcher, None if stdin is a terminal or a file."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return os.dup(sys.stdin.fileno()) if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None
