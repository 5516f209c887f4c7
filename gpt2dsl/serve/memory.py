"""Memory that large requests took, given back to the machine."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from collections.abc import Awaitable, Callable

LARGE = 64 << 10
"""Bytes of a body after which memory is given back."""

REST = 1.0
"""Seconds between two times."""

LASTING = 10.0
"""Seconds for which memory is given back after a large body: it may be worked on so long."""


class ResidentMemory:
    """Gives freed memory back: glibc keeps it, a hundred times what a text of a megabyte takes.

    Args:
        off_loop: calls a function beside the event loop.
    """

    def __init__(self, off_loop: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        self._off_loop, self._end = off_loop, 0.0
        self._clearing: asyncio.Task[None] | None = None

    def clear_up_after(self, body: int) -> None:
        """Give memory back from now on for a while, if a body of so many bytes is large."""
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
    """Call glibc's ``malloc_trim``, where the C library has it."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
