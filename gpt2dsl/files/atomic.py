"""Writing that is whole or not there: into a hidden neighbour first, synced, then renamed.

A neighbour's name tells who writes it, ``.name.tmp-<pid>-<n>@<host>``, so that what a killed
process left behind can be told from what a living one is writing, on a shared disk too.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NEIGHBOUR = re.compile(
    r"\.(?P<name>.+)\.(?P<kind>tmp|old)-(?P<pid>\d+)-\d+@(?P<host>.*)", re.DOTALL
)
_count = itertools.count()
_mine: set[Path] = set()


@contextmanager
def neighbour(final: Path, kind: str = "tmp") -> Iterator[Path]:
    """Yield a free path beside ``final``; whatever is still there at the end is removed.

    Args:
        final: the path that the neighbour is to become.
        kind: ``tmp`` for what is being written; ``old`` for what is being replaced, which
            :func:`sweep` puts back where a crash left nothing under the final name.
    """
    final = final.absolute()
    name = f".{final.name}.{kind}-{os.getpid()}-{next(_count)}@{socket.gethostname()}"
    path = final.with_name(name)
    # In a container every run may have the same process id: this path may be a dead run's.
    remove(path)
    _mine.add(path)
    try:
        yield path
    finally:
        remove(path)
        _mine.discard(path)


def write_file(final: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write one file: whole under its final name, or not at all.

    Args:
        final: its folder is made where it is not there.
        write: is given the open file.
    """
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
    """Give a folder to write files into; whole under its final name, or not at all.

    Args:
        final: must not be there; its own folder is made where it is not.

    Raises:
        OSError: it can't be written, or has come to be there meanwhile.
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
    """Make a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(parent: Path) -> None:
    """Clears away what dead processes of this machine left in ``parent``.

    What they were writing goes; what they were replacing comes back, unless they got to the end.
    """
    for entry in sorted(parent.iterdir()) if parent.is_dir() else ():
        match = _NEIGHBOUR.fullmatch(entry.name)
        if match is None or match["host"] != socket.gethostname():
            continue
        if _in_use(entry, int(match["pid"])):
            continue
        final = parent / match["name"]
        if match["kind"] == "old" and not final.exists():
            entry.rename(final)
        else:
            remove(entry)


def _in_use(entry: Path, pid: int) -> bool:
    if pid == os.getpid():
        return entry.absolute() in _mine
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
