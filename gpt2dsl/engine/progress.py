"""Progress on stderr: what is being compiled, then a bar with loss, tokens/s and time left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from typing_extensions import Self


class Bar:
    """A bar of steps. On a terminal it moves; elsewhere a line is printed every tenth."""

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        console = Console(stderr=True)
        self._moving = console.is_terminal
        self._what, self._total, self._done = what, total, done
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
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

    def step(self, detail: str, count: int = 1) -> None:
        """``count`` more are done; ``detail`` is shown beside the bar."""
        tenth = max(1, self._total // 10)
        before, self._done = self._done, self._done + count
        self._bar.update(self._task, completed=self._done, detail=detail)
        crossed = before // tenth != self._done // tenth or self._done == self._total
        if not self._moving and crossed:
            say(f"{self._what} {self._done}/{self._total}  {detail}")


@contextmanager
def saying(what: str) -> Iterator[None]:
    """Say what takes the time now, with a spinner on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        say(what)
        yield
        return
    with console.status(what):
        yield


def say(line: str) -> None:
    """A line on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
