"""The user's own folders: the home that ``~`` means, and the cache."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def expanded(name: str | Path) -> Path:
    """The path of a name that may begin with ``~``; of an unknown user's it stays as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def folder(kind: str) -> Path:
    """Return the cache's folder for one kind of file; it need not be there yet.

    ``$GPT2DSL_CACHE`` or ``~/.cache/gpt2dsl``; a user without a home has the temporary folder.
    """
    if chosen := os.environ.get("GPT2DSL_CACHE"):
        return Path(chosen) / kind
    try:
        return Path.home() / ".cache" / "gpt2dsl" / kind
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "gpt2dsl" / kind
