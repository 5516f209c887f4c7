"""Progress on stderr: what is being compiled, then a bar with loss, tokens/s and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from typing_extensions import Self

from gpt2dsl import terminal
from gpt2dsl.terminal import say

SHORT = 5.0
"""Seconds up to which nothing is said of the time that is left."""

__all__ = ["Bar", "ByteBar", "say", "saying"]


class _Shown:
    """A bar on stderr: it moves on a terminal; elsewhere lines are printed now and then."""

    def __init__(self, what: str, total: int, done: int, *columns: str | ProgressColumn) -> None:
        console = Console(file=terminal.stderr())
        self._moving = console.is_terminal
        self._what, self._total, self._done = what, total, done
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=console,
            disable=not self._moving,
            transient=True,
        )
        self._task: TaskID = self._bar.add_task(what, total=total, completed=done, detail="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


class Bar(_Shown):
    """A bar of steps. On a terminal it moves; elsewhere a line is printed every tenth."""

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        detail = TextColumn("{task.fields[detail]}")
        super().__init__(what, total, done, MofNCompleteColumn(), detail)
        self._first: tuple[int, float] | None = None

    def step(self, detail: str, count: int = 1) -> None:
        """``count`` more are done; ``detail`` is shown beside the bar."""
        tenth = max(1, self._total // 10)
        before, self._done = self._done, self._done + count
        self._bar.update(self._task, completed=self._done, detail=detail)
        crossed = before // tenth != self._done // tenth or self._done == self._total
        if not self._moving and crossed:
            say(f"{self._what} {self._done}/{self._total}  {detail}{self._left()}")
        if self._first is None:  # which may have waited for a compilation
            self._first = self._done, time.perf_counter()

    def _left(self) -> str:
        """Return how long the rest takes, where that is worth a word."""
        if self._first is None:
            return ""
        done, since = self._first
        seconds = (time.perf_counter() - since) / (self._done - done) * (self._total - self._done)
        return f"  {timedelta(seconds=round(seconds))} left" if seconds >= SHORT else ""


class ByteBar(_Shown):
    """A bar of bytes with their speed; on no terminal a line every few seconds."""

    PAUSE = 5.0
    """Seconds between two lines."""

    def __init__(self, what: str, total: int) -> None:
        super().__init__(what, max(1, total), 0, DownloadColumn(), TransferSpeedColumn())
        self._started = self._said = time.perf_counter()

    def move(self, count: int) -> None:
        """``count`` more bytes are done."""
        self.to(self._done + count)

    def to(self, done: int) -> None:
        """So many bytes are done."""
        self._done = done
        self._bar.update(self._task, completed=self._done)
        now = time.perf_counter()
        if not self._moving and now - self._said > self.PAUSE:
            self._said = now
            rate, share = self._done / 1e6 / (now - self._started), self._done / self._total
            say(f"{self._what} {share:.0%} of {self._total / 1e6:,.1f} MB, {rate:,.0f} MB/s")


@contextmanager
def saying(what: str) -> Iterator[None]:
    """Say what takes the time now, with a spinner on a terminal."""
    console = Console(file=terminal.stderr())
    if not console.is_terminal:
        say(what)
        yield
        return
    with console.status(what):
        yield
