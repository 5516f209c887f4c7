"""This machine's CPU: its cores, and their speed in matrix products, measured once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import time
from pathlib import Path

import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor

from gpt2dsl.files import atomic, cache

SIZE, TRIALS = 1536, 5


def cores() -> int:
    """Return the number of cores that this process may use."""
    available = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(available(0)) if available else os.cpu_count() or 1


@functools.cache
def peak_flops() -> float:
    """Return floating-point operations per second of all cores in float32 matrix products.

    The figure is kept in the cache, for this processor and number of cores.
    """
    file = cache.folder("peak-flops") / _machine()
    try:
        return float(file.read_text("ascii"))
    except (OSError, ValueError):
        speed = _measured()
    with contextlib.suppress(OSError):  # a cache that can't be written costs a measurement
        atomic.write_file(file, lambda out: out.write(f"{speed:.6g}\n".encode("ascii")))
    return speed


def _measured() -> float:
    """Return the best speed of several products, the first of which compiles."""
    matrix = Tensor(np.ones((SIZE, SIZE), np.float32))
    product, best = P.MatMul(), 0.0
    for _ in range(TRIALS):
        started = time.perf_counter()
        product(matrix, matrix).asnumpy()
        best = max(best, 2 * SIZE**3 / (time.perf_counter() - started))
    return best


def _machine() -> str:
    """Return a file name for this processor and number of cores."""
    return hashlib.sha256(f"{_processor()} {cores()}".encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    named = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(named[:2]) or platform.processor()
