"""Atomic writes: to a hidden sibling first, synced, then renamed.

A sibling's name identifies its writer, ``.name.tmp-<pid>-<n>@<host>``, so that leftovers of a dead
process can be told from files that a live one is writing, on shared disks too.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gpt2dsl.files import writers

_NEIGHBOUR = re.compile(
    r"\.(?P<name>.+)\.(?P<kind>tmp|old)-(?P<pid>\d+)-\d+@(?P<host>.*)", re.DOTALL
)
_count = itertools.count()
_mine: set[Path] = set()


@contextmanager
def neighbour(final: Path, kind: str = "tmp") -> Iterator[Path]:
    """Yield an unused path beside ``final``; remove it at the end if it still exists.

    Args:
        final: the path to which the sibling will be renamed.
        kind: ``tmp`` for a file being written; ``old`` for one being replaced, which :func:`sweep`
            restores if a crash left nothing under the final name.
    """
    final = final.absolute()
    name = f".{final.name}.{kind}-{os.getpid()}-{next(_count)}@{socket.gethostname()}"
    path = final.with_name(name)
    # In containers every run may have the same process id: the path may be a dead run's.
    remove(path)
    _mine.add(path)
    try:
        yield path
    finally:
        remove(path)
        _mine.discard(path)


def write_file(final: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write one file atomically, by a function; its folder is created if missing."""
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep(final.parent)
    with neighbour(final) as path:
        with path.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        path.replace(final)
        sync(final.parent)


@contextmanager
def writing_folder(final: Path) -> Iterator[Path]:
    """Yield a folder to write into, renamed atomically to its final name at the end.

    Raises:
        OSError: the folder can't be written, or ``final`` was created meanwhile.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep(final.parent)
    with neighbour(final) as folder:
        folder.mkdir()
        yield folder
        for path in (*folder.iterdir(), folder):
            sync(path)
        folder.rename(final)
        sync(final.parent)


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(parent: Path) -> None:
    """Clean up siblings that dead processes of this machine left in ``parent``.

    Unfinished files are removed; replaced ones are restored, unless the final name exists. A folder
    with several writers stays while one of them lives. Another process may clean up concurrently.
    """
    for entry in sorted(parent.iterdir()) if parent.is_dir() else ():
        match = _NEIGHBOUR.fullmatch(entry.name)
        if match is None or match["host"] != socket.gethostname():
            continue
        if _in_use(entry, int(match["pid"])):
            continue
        try:
            _clean_up(entry, parent / match["name"], match["kind"])
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


def _clean_up(entry: Path, final: Path, kind: str) -> None:
    if kind == "old" and not final.exists():
        entry.rename(final)
    else:
        remove(entry)


def _in_use(entry: Path, pid: int) -> bool:
    if pid == os.getpid():
        return entry.absolute() in _mine
    return writers.is_running(pid) or writers.are_running(entry)
