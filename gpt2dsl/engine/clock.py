"""Wall-clock accounting of a run by activity."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """A stopwatch that sums seconds by activity.

    Attributes:
        seconds: activity → seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = 0.0
        self._began = time.perf_counter()

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Count the time within under ``what``, without the time of nested calls."""
        began, around, self._inside = time.perf_counter(), self._inside, 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.seconds[what] = self.seconds.get(what, 0.0) + took - self._inside
            self._inside = around + took

    @property
    def total(self) -> float:
        """Seconds since construction."""
        return time.perf_counter() - self._began
