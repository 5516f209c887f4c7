"""Priorities of threads: those that compute get the processor as soon as they wake."""

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
"""Nanoseconds: the least that Linux grants. A thread with a short slice preempts one in the middle
of a long one (EEVDF, Linux 6.12)."""

_MINDSPORE = ("ActorThread", "KernelThread")
"""Names of MindSpore's threads. One waits for the other at each operator, in a loop that takes a
processor; on two of them the other one waits for whoever runs beside it, 3 ms each time."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Numbers of the system call, which the C library does not have."""


def come_first() -> None:
    """Ask for short time slices for this thread and MindSpore's, where the system has them.

    Where it does not, everything works as well, and is held up more by what runs beside it.
    """
    if sys.platform == "linux":
        for thread in [threading.get_native_id(), *_mindspore()]:
            _shorten_slices(thread)


def stand_back() -> None:
    """Let this thread go on only where no other one of the process wants the processor.

    Its slices are short as well: it may hold the interpreter, for which the others wait, and has
    its turn to pass it on so much sooner.
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
    """Give the ids of MindSpore's threads."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            if (thread / "comm").read_text().startswith(_MINDSPORE):
                yield int(thread.name)
