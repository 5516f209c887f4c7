"""Relative path from an adapter to its base, which survives a copy or move of the project.

adapter_config.json names the base by absolute path, since PEFT resolves a relative path against the
working directory. The manifest beside it also records the path relative to the adapter's folder, so
that an adapter in a copied or moved project uses the base there, not the one in the original
project.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from gpt2dsl import terminal
from gpt2dsl.weights import store

_KEY, _NAMED, _NEAR = "base", "named", "near"


def noted(folder: Path, base: str) -> dict[str, Any]:
    """Return the manifest entries for an adapter's base; {} if the base is not an absolute path."""
    if not Path(base).is_absolute():
        return {}
    return {_KEY: {_NAMED: base, _NEAR: os.path.relpath(base, folder.absolute())}}


def base_of(folder: Path, named: str) -> str:
    """Return an adapter's base: the manifest's relative path if it exists, else as named."""
    record = store.recorded(folder).get(_KEY)
    if not isinstance(record, dict) or record.get(_NAMED) != named:
        return named
    nearby_base = Path(os.path.normpath(folder.absolute() / str(record.get(_NEAR))))
    if str(nearby_base) == named or not nearby_base.exists():
        return named
    if Path(named).exists() and not nearby_base.samefile(named):
        _tell(folder, nearby_base, named)
    return str(nearby_base)


@functools.cache
def _tell(folder: Path, nearby_base: Path, named: str) -> None:
    """Print once which of two bases is used."""
    terminal.say(f"{folder}: its base is {nearby_base}, in its own project, and not {named}")
