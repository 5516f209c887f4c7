"""Turns at MindSpore: threads of a process compute one after another, as they ask for it.

MindSpore 2.10 neither compiles nor runs graphs in two threads at once: it raises errors without a
sense, crashes or hangs. This module imports nothing of it.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ContextDecorator
from types import TracebackType


class Turns(ContextDecorator):
    """A lock that a thread may take several times, and that the longest waiting thread gets next.

    Why not ``threading.RLock``: a thread that gives it back and takes it again at once, as one that
    generates token by token, leaves others waiting for seconds.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        own = threading.get_ident()
        with self._mutex:
            if self._owner in (None, own):
                self._owner, self._depth = own, self._depth + 1
                return
            passed_on = threading.Lock()
            passed_on.acquire()
            waiting = (own, passed_on)
            self._waiting.append(waiting)
        try:
            passed_on.acquire()
        except BaseException:  # Ctrl-C: the turn may have come in the same moment
            with self._mutex:
                if self._owner == own:
                    self._pass_on()
                else:
                    self._waiting.remove(waiting)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._mutex:
            self._depth -= 1
            if not self._depth:
                self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn to whoever has waited longest."""
        self._owner, self._depth = None, 0
        if self._waiting:
            self._owner, passed_on = self._waiting.popleft()
            self._depth = 1
            passed_on.release()


TURNS = Turns()
"""Of this process."""
