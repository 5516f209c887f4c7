"""Readers of the pipes from the ranks: reports, and stderr of rank 0 for the user."""

from __future__ import annotations

import codecs
import json
import os
import selectors
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2dsl import terminal
from gpt2dsl.cluster.process import CHATTER

CHUNK = 65536


class PipeReader:
    """Multiplexed reading of pipes in the waiting thread, without additional threads."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, take: Callable[[bytes], None]) -> int:
        """Open a pipe read by ``take``; return its write end, which the caller must close."""
        read_end, write_end = os.pipe()
        self.listen(read_end, take)
        return write_end

    def listen(self, fd: int, take: Callable[[bytes], None]) -> None:
        """Take ownership of an open pipe read by ``take``, which gets b"" at its end."""
        self._selector.register(fd, selectors.EVENT_READ, take)

    def run(self, seconds: float) -> bool:
        """Wait for input and read it; return False if none came in time."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            chunk = os.read(key.fd, CHUNK)
            key.data(chunk)
            if not chunk:
                self._close(key.fd)
        return bool(ready)

    def drain(self) -> None:
        """Read the available input, bounded by what a rank can have left in its pipe."""
        for _ in range(CHUNK):
            if not self.run(0):
                return

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            self._close(key.fd)
        self._selector.close()

    def _close(self, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)


class Reports:
    """Parser of chunks of bytes into reports, one JSON object per line."""

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take
        self._rest = b""

    def take(self, chunk: bytes) -> None:
        """Take the next bytes; ignore lines that are not reports."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if isinstance(report := _value(line), dict):
                self._take(report)


def _value(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


class StderrTee:
    """Copy of the stderr of a rank to its log and to stderr of this process."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, chunk: bytes) -> None:
        with self._log.open("ab") as file:
            file.write(chunk)
        text = CHATTER.sub("", self._decoder.decode(chunk))
        terminal.write(text)

    @staticmethod
    def environment() -> dict[str, str]:
        """Return variables that enable the rank's progress bar although its stderr is a pipe."""
        if not sys.stderr.isatty():
            return {}
        columns, lines = shutil.get_terminal_size()
        return {"FORCE_COLOR": "1", "COLUMNS": str(columns), "LINES": str(lines)}
