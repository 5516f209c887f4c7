"""Which devices this machine has, known without MindSpore."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.parts.bundle import Parts

_FILES = {
    "gpu": ("/dev/nvidiactl", "/dev/dxg"),  # the second under Windows' WSL
    "ascend": ("/dev/davinci_manager", "/dev/davinci[0-9]*"),
}
"""Device → files of its driver, of which one is there where the device is."""


def missing(device: str) -> str:
    """Return why a device is not here; "" where it may be.

    Args:
        device: cpu, gpu or ascend.
    """
    if device not in _FILES or any(_exists(file) for file in _FILES[device]):
        return ""
    return f"this machine has no {device}: no driver of one is there ({_FILES[device][0]})"


def refusal(parts: Parts) -> str:
    """Return why a recipe can't run here for want of its device; "" where it may.

    Args:
        parts: the recipe's.
    """
    if parts.task is None or not parts.task.needs_device:
        return ""
    reason = missing(device := parts.runtime.device)
    return f"runtime.device = {device}: {reason}" if reason else ""


def _exists(pattern: str) -> bool:
    folder, _, name = pattern.rpartition("/")
    return any(Path(folder).glob(name))
