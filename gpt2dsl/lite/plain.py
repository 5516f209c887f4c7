"""Paths that MindSpore accepts."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = re.compile(r"[0-9a-zA-Z@_\-./:]+")
"""The only characters that MindSpore 2.10 accepts in paths of MindIR."""


@contextmanager
def plain(folder: Path) -> Iterator[Path]:
    """Yield the folder under a path that MindSpore accepts: its own, or a link to it."""
    folder = folder.absolute()
    if _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as name:
        link = Path(name) / "folder"
        link.symlink_to(folder, target_is_directory=True)
        yield link
