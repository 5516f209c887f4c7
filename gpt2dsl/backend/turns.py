"""Fair lock around MindSpore: threads take turns in order of arrival.

MindSpore 2.10 can't compile or run graphs in two threads at once: it raises meaningless errors,
crashes or hangs. This module does not import it.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ContextDecorator
from types import TracebackType


class Turns(ContextDecorator):
    """Fair reentrant lock: the thread that has waited longest gets it next.

    Why not ``threading.RLock``: a thread that releases and reacquires it at once, such as one that
    generates token by token, keeps others waiting for seconds.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        thread = threading.get_ident()
        with self._mutex:
            if self._owner in (None, thread):
                self._owner, self._depth = thread, self._depth + 1
                return
            passed_on = threading.Lock()
            passed_on.acquire()
            waiting = (thread, passed_on)
            self._waiting.append(waiting)
        try:
            passed_on.acquire()
        except BaseException:  # Ctrl-C: the turn may have arrived at the same moment
            with self._mutex:
                if self._owner == thread:
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
        """Hand the lock to the thread that has waited longest."""
        self._owner, self._depth = None, 0
        if self._waiting:
            self._owner, passed_on = self._waiting.popleft()
            self._depth = 1
            passed_on.release()


TURNS = Turns()
"""The lock of this process."""
