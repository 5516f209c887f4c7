"""Runtimes of exported folders."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from gpt2dsl import extras
from gpt2dsl.errors import InputError
from gpt2dsl.lite import setup
from gpt2dsl.lite.description import Description
from gpt2dsl.lite.runtimes.mindir import MindirRuntime
from gpt2dsl.lite.runtimes.mslite import LiteRuntime
from gpt2dsl.lite.runtimes.onnx import OnnxRuntime

AnyRuntime = OnnxRuntime | MindirRuntime | LiteRuntime
RUNTIMES: dict[str, type[AnyRuntime]] = {
    "onnx": OnnxRuntime,
    "mindir": MindirRuntime,
    "ms": LiteRuntime,
}


def missing(form: str) -> str:
    """Return the reason why a format can't be run here; "" if it can."""
    if form == "onnx" and not importlib.util.find_spec("onnxruntime"):
        return f"onnxruntime is not installed: {extras.install('onnx')}"
    if form == "ms" and setup.find() is None:
        return f"MindSpore Lite is not set up: {setup.SETUP}"
    return ""


def unwritable(form: str) -> str:
    """Return the reason why a format can't be written here; "" if it can."""
    if form in ("onnx", "ms") and not importlib.util.find_spec("onnx"):
        return f"onnx is not installed: {extras.install('onnx')}"
    return missing(form) if form == "ms" else ""


def runtime(folder: Path, described: Description) -> AnyRuntime:
    """Return the runtime of an exported folder.

    Raises:
        InputError: its library is not installed (G2-531).
    """
    if why := missing(described.format):
        raise InputError("G2-531", folder, why)
    return RUNTIMES[described.format](folder, described)
