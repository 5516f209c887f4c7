"""User folders: the home that ``~`` stands for, and the cache."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def expanded(name: str | Path) -> Path:
    """Expand a leading ``~`` in a path; leave that of an unknown user unchanged."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def folder(kind: str) -> Path:
    """Return the cache folder for one kind of file; it need not exist yet.

    It is below ``$GPT2DSL_CACHE`` or ``~/.cache/gpt2dsl``, or below the temporary folder for a user
    without a home.
    """
    if chosen := os.environ.get("GPT2DSL_CACHE"):
        return Path(chosen) / kind
    try:
        return Path.home() / ".cache" / "gpt2dsl" / kind
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "gpt2dsl" / kind
