from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpt2dsl.serve import priority

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
KERNEL = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SCHED_GETATTR, reason="Linux's scheduler"
)


def attributes(thread: int) -> tuple[int, int]:
    """The nice value and the time slice of a thread, as the system has them."""
    raw = ctypes.create_string_buffer(48)
    number = SCHED_GETATTR[platform.machine()]
    assert not ctypes.CDLL(None).syscall(number, thread, raw, 48, 0)
    _, _, _, nice, _, time_slice, _, _ = struct.unpack("=IIQiIQQQ", raw.raw)
    return nice, time_slice


def in_a_thread(*work: Callable[[], None]) -> tuple[int, int]:
    """What a thread is granted after it has done something."""

    def run() -> tuple[int, int]:
        for each in work:
            each()
        return attributes(threading.get_native_id())

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


@pytest.mark.skipif(KERNEL < (6, 12), reason="time slices came with Linux 6.12")
def test_a_thread_gets_short_time_slices_and_keeps_its_priority() -> None:
    nice, _ = attributes(threading.get_native_id())
    assert in_a_thread(priority.come_first) == (nice, priority.TIME_SLICE)
    assert in_a_thread(priority.stand_back) == (19, priority.TIME_SLICE)


def test_elsewhere_than_on_linux_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_a_thread()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(priority, "_mindspore", lambda: pytest.fail("there is no /proc"))
    assert in_a_thread(priority.come_first, priority.stand_back) == before


def test_a_thread_that_stands_back_stands_back_alone() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert in_a_thread(priority.stand_back)[0] == 19
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
