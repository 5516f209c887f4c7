"""What differs by device, and how graphs are compiled: in this one place."""

from __future__ import annotations

import functools

import mindspore as ms

TARGETS = {"cpu": "CPU", "gpu": "GPU", "ascend": "Ascend"}


def use(device: str) -> None:
    """Compile whole graphs for a device.

    Args:
        device: cpu, gpu or ascend.
    """
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_recursion_limit(20_000)  # of the compiler: blocks are unrolled
    _choose(device)


@functools.cache
def _choose(device: str) -> None:
    """Once: after ranks have met MindSpore refuses to hear it again."""
    ms.set_device(TARGETS[device])
