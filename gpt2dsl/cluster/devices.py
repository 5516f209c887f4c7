"""Device detection without MindSpore."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.parts.bundle import Parts

_FILES = {
    "gpu": ("/dev/nvidiactl", "/dev/dxg"),  # /dev/dxg is that of WSL on Windows
    "ascend": ("/dev/davinci_manager", "/dev/davinci[0-9]*"),
}
"""Device → driver files, at least one of which exists if the device does."""


def missing(device: str) -> str:
    """Return why this machine lacks a device, "" if it may have one."""
    if device not in _FILES or any(_exists(file) for file in _FILES[device]):
        return ""
    return f"this machine has no {device}: no driver of one is there ({_FILES[device][0]})"


def refusal(parts: Parts) -> str:
    """Return why a recipe can't run for lack of its device, "" if it may run."""
    if parts.task is None or not parts.task.needs_device:
        return ""
    reason = missing(device := parts.runtime.device)
    return f"runtime.device = {device}: {reason}" if reason else ""


def _exists(pattern: str) -> bool:
    folder, _, name = pattern.rpartition("/")
    return any(Path(folder).glob(name))
