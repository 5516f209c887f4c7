"""Device selection and MindSpore's compilation mode."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms

from gpt2dsl.backend.turns import TURNS
from gpt2dsl.errors import RunError

TARGETS = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}


@contextmanager
def turn() -> Iterator[None]:
    """Give this thread exclusive use of MindSpore, in graph mode.

    All code that compiles or runs graphs or writes to parameters must run within it; it also works
    as a decorator.
    """
    with TURNS:
        ms.set_context(mode=ms.GRAPH_MODE)  # per thread; takes 8 microseconds
        yield


def use(device: str) -> None:
    """Select the device and graph mode.

    Args:
        device: cpu, gpu or ascend.

    Raises:
        RunError: MindSpore can't use it here.
    """
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_recursion_limit(20_000)  # the compiler unrolls blocks
    _choose(device)


@functools.cache
def _choose(device: str) -> None:
    """Set the device once: MindSpore refuses a second call after ranks have joined."""
    try:
        ms.set_device(TARGETS[device])
    except RuntimeError as error:
        reasons = [line for line in str(error).splitlines() if line.startswith("Load dynamic")]
        reason = (reasons or str(error).splitlines())[0]
        message = f"MindSpore {ms.__version__} can't use it here: {reason}"
        raise RunError("G2-402", f"runtime.device = {device}: {message}") from error
