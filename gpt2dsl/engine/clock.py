"""What a run spends its time on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up seconds by what they were spent on.

    Attributes:
        seconds: what → how many.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = 0.0
        self._began = time.perf_counter()

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Count the time within, but for what is counted further inside."""
        began, around, self._inside = time.perf_counter(), self._inside, 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.seconds[what] = self.seconds.get(what, 0.0) + took - self._inside
            self._inside = around + took

    @property
    def total(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._began
