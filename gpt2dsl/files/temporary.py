"""Temporary folders of this process, removed whichever way it ends."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from typing import NoReturn

_FOLDERS: list[str] = []


def folder(prefix: str) -> str:
    """Return the path of a new folder, which is removed when the process ends."""
    if not _FOLDERS:
        atexit.register(remove_all)
    _FOLDERS.append(tempfile.mkdtemp(prefix=prefix))
    return _FOLDERS[-1]


def remove_all() -> None:
    for name in _FOLDERS:
        shutil.rmtree(name, ignore_errors=True)


def end(code: int) -> NoReturn:
    """End the process at once, without the interpreter's shutdown.

    Shutdown crashes beneath a thread that computes with MindSpore. Output is written, and folders
    are removed.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError, AttributeError):
            stream.flush()
    remove_all()
    os._exit(code)
