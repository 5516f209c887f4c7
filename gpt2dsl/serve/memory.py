"""Release of memory to the system after large requests."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from collections.abc import Awaitable, Callable

LARGE = 64 << 10
"""Bytes of a body beyond which memory is released."""

REST = 1.0
"""Seconds between two releases."""

LASTING = 10.0
"""Seconds of releases after a large body, which may be in work for that long."""


class ResidentMemory:
    """Periodic release of freed memory, of which glibc keeps a hundred times the size of a body."""

    def __init__(self, off_loop: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        self._off_loop, self._end = off_loop, 0.0
        self._clearing: asyncio.Task[None] | None = None

    def clear_up_after(self, body: int) -> None:
        """Release memory for a while after a body of this many bytes, if it is large."""
        if body <= LARGE:
            return
        self._end = time.monotonic() + LASTING
        if self._clearing is None or self._clearing.done():
            self._clearing = asyncio.create_task(self._clear_up())

    async def _clear_up(self) -> None:
        while time.monotonic() < self._end:
            await asyncio.sleep(REST)
            await self._off_loop(_give_back)


def _give_back() -> None:
    """Call ``malloc_trim`` if the C library has it."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
