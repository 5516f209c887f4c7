"""Thread scheduling: threads that compute get the processor as soon as they wake."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

TIME_SLICE = 100_000
"""Time slice in nanoseconds, the minimum of Linux. A thread with a short slice preempts one in the
middle of a long slice (EEVDF, Linux 6.12)."""

_MINDSPORE = ("ActorThread", "KernelThread")
"""Names of MindSpore's threads. At each operator one busy-waits for the other, which occupies a
processor; with two processors, the other waits 3 ms each time for any other running thread."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Numbers of the system call, which the C library does not wrap."""


def come_first() -> None:
    """Request short time slices for this thread and MindSpore's, where supported.

    Elsewhere everything still works, but other threads delay it more.
    """
    if sys.platform == "linux":
        for thread in [threading.get_native_id(), *_mindspore()]:
            _shorten_slices(thread)


def stand_back() -> None:
    """Give this thread the lowest priority within the process.

    Its slices are short as well: when it holds the GIL, for which the others wait, it is scheduled
    and can release the GIL that much sooner.
    """
    if sys.platform == "linux":  # elsewhere a process has one priority for all of its threads
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, 19)
        _shorten_slices(thread)


def _shorten_slices(thread: int) -> None:
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    nice = os.getpriority(os.PRIO_PROCESS, thread)
    # sched_attr: size, policy (SCHED_OTHER), flags, nice, priority, slice, two for deadlines
    wanted = struct.pack("=IIQiIQQQ", 48, 0, 0, nice, 0, TIME_SLICE, 0, 0)
    ctypes.CDLL(None).syscall(number, thread, wanted, 0)


def _mindspore() -> Iterator[int]:
    """Yield the ids of MindSpore's threads."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            if (thread / "comm").read_text().startswith(_MINDSPORE):
                yield int(thread.name)
