"""Progress on stderr, or in a notebook's cell: a bar with details and the time left.

On a terminal and in a notebook, progress is one line that updates in place and disappears at the
end; elsewhere lines are printed at intervals. Within ``terminal.quietly`` nothing is shown.
"""

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
from rich.status import Status
from typing_extensions import Self

from gpt2dsl import notebook, terminal

SHORT = 5.0
"""Remaining seconds below which the time left is not shown."""

SPARSE = 5.0
"""Minimum seconds between two printed lines of an evaluation."""
RARE = 60.0
"""The same for an evaluation during training, which prints one line at its end."""

__all__ = ["RARE", "SPARSE", "Bar", "ByteBar", "say", "saying"]


def say(line: str) -> None:
    """Write a line of progress to stderr, unless output is to be quiet; never raise."""
    if not terminal.is_quiet():
        terminal.say(line)


_MOVING: list[Progress | Status] = []
"""Stack of live displays on the terminal: only the last one is active, the others are paused."""


@contextmanager
def _in_front(line: Progress | Status) -> Iterator[None]:
    """Pause the live display on the terminal: only one can be active."""
    if _MOVING:
        _MOVING[-1].stop()
    _MOVING.append(line)
    try:
        yield
    finally:
        _MOVING.remove(line)
        if _MOVING:
            _MOVING[-1].start()


def _console() -> Console:
    """Return a console on stderr; ignore FORCE_COLOR, which ipykernel sets, on a pipe."""
    stream = terminal.stderr()
    moves = getattr(stream, "isatty", lambda: False)()
    return Console(file=stream, force_jupyter=False, force_terminal=None if moves else False)


class _Shown:
    """A bar that updates in place on a terminal and in a notebook, and else prints lines."""

    def __init__(self, what: str, total: int, done: int, *columns: str | ProgressColumn) -> None:
        console = _console()
        quiet = terminal.is_quiet()
        self._cell = None if quiet else notebook.cell()
        self._prints = not (quiet or self._cell or console.is_terminal)
        self._what, self._total, self._done = what, total, done
        self._first: tuple[int, float] | None = None
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=console,
            disable=quiet or bool(self._cell) or not console.is_terminal,
            transient=True,
        )
        self._task: TaskID = self._bar.add_task(what, total=total, completed=done, detail="")

    def __enter__(self) -> Self:
        self._behind = _in_front(self._bar)
        self._behind.__enter__()
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._behind.__exit__(kind, error, trace)
        if self._cell:
            self._cell.clear()

    def _move(self, done: int, detail: str, words: str) -> None:
        """Show the progress.

        Args:
            done: amount done of the total.
            detail: text beside the bar on a terminal.
            words: text beside the bar in a notebook.
        """
        self._done = done
        self._bar.update(self._task, completed=done, detail=detail)
        if self._cell:
            self._cell.bar(self._what, done / self._total, f"{words}{self._left()}")
        if self._first is None:  # the first step may include a compilation
            self._first = done, time.perf_counter()

    def _left(self) -> str:
        """Return the estimated time left, if it is long enough to show."""
        if self._first is None or self._done == self._first[0]:
            return ""
        done, since = self._first
        seconds = (time.perf_counter() - since) / (self._done - done) * (self._total - self._done)
        return f"  {timedelta(seconds=round(seconds))} left" if seconds >= SHORT else ""


class Bar(_Shown):
    """A bar of steps; printed lines appear at every tenth of the total.

    Args:
        what: the activity.
        total: total number of steps.
        done: number of steps done before.
        pause: minimum number of seconds between printed lines.
    """

    def __init__(self, what: str, total: int, done: int = 0, *, pause: float = 0.0) -> None:
        detail = TextColumn("{task.fields[detail]}")
        super().__init__(what, max(1, total), done, MofNCompleteColumn(), detail)
        self._pause, self._said = pause, time.perf_counter()

    def step(self, detail: str, count: int = 1) -> None:
        """Advance by ``count`` steps; ``detail`` is shown beside the bar."""
        tenth = max(1, self._total // 10)
        before, done = self._done, self._done + count
        crossed = before // tenth != done // tenth or done == self._total
        self._done = done
        now = time.perf_counter()
        if self._prints and crossed and now - self._said >= self._pause:
            self._said = now
            say(f"{self._what} {done}/{self._total}  {detail}{self._left()}")
        self._move(done, detail, f"{done}/{self._total}  {detail}")


class ByteBar(_Shown):
    """A bar of bytes with their rate; printed lines appear every few seconds."""

    PAUSE = 5.0
    """Seconds between two printed lines."""

    def __init__(self, what: str, total: int) -> None:
        super().__init__(what, max(1, total), 0, DownloadColumn(), TransferSpeedColumn())
        self._started = self._said = time.perf_counter()

    def move(self, count: int) -> None:
        """Advance by ``count`` bytes."""
        self.to(self._done + count)

    def to(self, done: int) -> None:
        """Set the number of bytes done."""
        now = time.perf_counter()
        rate = done / 1e6 / max(now - self._started, 1e-9)
        words = f"{done / self._total:.0%} of {self._total / 1e6:,.1f} MB, {rate:,.0f} MB/s"
        self._move(done, "", words)
        if self._prints and now - self._said > self.PAUSE:
            self._said = now
            say(f"{self._what} {words}{self._left()}")


@contextmanager
def saying(what: str) -> Iterator[None]:
    """Show the current activity: a spinner on a terminal, a line elsewhere."""
    console = _console()
    if terminal.is_quiet():
        yield
    elif cell := notebook.cell():
        cell.say(what)
        try:
            yield
        finally:
            cell.clear()
    elif console.is_terminal:
        status = console.status(what)
        with _in_front(status), status:
            yield
    else:
        say(what)
        yield
