"""Paths as MindSpore takes them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = re.compile(r"[0-9a-zA-Z@_\-./:]+")
"""MindSpore 2.10 writes and reads MindIR under names of these characters alone."""


@contextmanager
def plain(folder: Path) -> Iterator[Path]:
    """Yield the folder under a name that MindSpore takes: its own, or that of a link to it."""
    folder = folder.absolute()
    if _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as name:
        link = Path(name) / "folder"
        link.symlink_to(folder, target_is_directory=True)
        yield link
