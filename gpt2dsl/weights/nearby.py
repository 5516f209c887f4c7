"""The way from an adapter to its base, which stays true in a copied or moved project.

adapter_config.json names a base by its absolute path, since PEFT takes a relative one from the
working directory. A manifest beside it has the way from the adapter's folder to the base, so that
an adapter in a project that was copied or moved belongs to the base there, and not to the one that
the project came from.
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
    """Return the entries of an adapter's manifest about its base; {} for a base that is no path.

    Args:
        folder: where the adapter will be.
        base: as its configuration names it.
    """
    if not Path(base).is_absolute():
        return {}
    return {_KEY: {_NAMED: base, _NEAR: os.path.relpath(base, folder.absolute())}}


def base_of(folder: Path, named: str) -> str:
    """Return an adapter's base: by the way in its manifest if that leads to one, else as named.

    Args:
        folder: of the adapter.
        named: the base, as its configuration has it.
    """
    record = store.recorded(folder).get(_KEY)
    if not isinstance(record, dict) or record.get(_NAMED) != named:
        return named
    near = Path(os.path.normpath(folder.absolute() / str(record.get(_NEAR))))
    if str(near) == named or not near.exists():
        return named
    if Path(named).exists() and not near.samefile(named):
        _tell(folder, near, named)
    return str(near)


@functools.cache
def _tell(folder: Path, near: Path, named: str) -> None:
    """Say once which of two bases is taken."""
    terminal.say(f"{folder}: its base is {near}, in its own project, and not {named}")
