"""Reads what the ranks send: reports, and rank 0's stderr for the user in front."""

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
    """Pipes that are read by the one who waits: no thread is needed."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, take: Callable[[bytes], None]) -> int:
        """A new pipe whose bytes ``take`` gets; its end to write to, to be closed after use."""
        ours, theirs = os.pipe()
        self.listen(ours, take)
        return theirs

    def listen(self, fd: int, take: Callable[[bytes], None]) -> None:
        """A pipe that is there already; it is ours from now on. At its end ``take`` gets b""."""
        self._selector.register(fd, selectors.EVENT_READ, take)

    def run(self, seconds: float) -> bool:
        """Wait that long at most for something to read; whether there was."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            chunk = os.read(key.fd, CHUNK)
            key.data(chunk)
            if not chunk:
                self._close(key.fd)
        return bool(ready)

    def drain(self) -> None:
        """Read what is there, and no more than a rank can have left in its pipe."""
        for _ in range(CHUNK):
            if not self.run(0):
                return

    def close(self) -> None:
        """Close all."""
        for key in list(self._selector.get_map().values()):
            self._close(key.fd)
        self._selector.close()

    def _close(self, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)


class Reports:
    """Lines of JSON out of chunks of bytes."""

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take
        self._rest = b""

    def take(self, chunk: bytes) -> None:
        """The next bytes; what is no report is passed over."""
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
    """Copies a rank's stderr to its log and to our own stderr."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, chunk: bytes) -> None:
        """The next bytes."""
        with self._log.open("ab") as file:
            file.write(chunk)
        text = CHATTER.sub("", self._decoder.decode(chunk))
        terminal.write(text)

    @staticmethod
    def environment() -> dict[str, str]:
        """Lets the rank's bar move where our stderr is a terminal: what it sees is a pipe."""
        if not sys.stderr.isatty():
            return {}
        columns, lines = shutil.get_terminal_size()
        return {"FORCE_COLOR": "1", "COLUMNS": str(columns), "LINES": str(lines)}
