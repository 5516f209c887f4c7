"""What differs by device, and how graphs are compiled: in this one place."""

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
    """Have MindSpore for this thread alone, ready to compile whole graphs.

    Everything that compiles or runs graphs, or writes to parameters, happens within it; also
    decorates functions.
    """
    with TURNS:
        ms.set_context(mode=ms.GRAPH_MODE)  # a thread's own; 8 microseconds
        yield


def use(device: str) -> None:
    """Compile whole graphs for a device.

    Args:
        device: cpu, gpu or ascend.

    Raises:
        RunError: MindSpore can't use it here.
    """
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_recursion_limit(20_000)  # of the compiler: blocks are unrolled
    _choose(device)


@functools.cache
def _choose(device: str) -> None:
    """Once: after ranks have met MindSpore refuses to hear it again."""
    try:
        ms.set_device(TARGETS[device])
    except RuntimeError as error:
        reasons = [line for line in str(error).splitlines() if line.startswith("Load dynamic")]
        reason = (reasons or str(error).splitlines())[0]
        message = f"MindSpore {ms.__version__} can't use it here: {reason}"
        raise RunError(f"runtime.device = {device}: {message}") from error
