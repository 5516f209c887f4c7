"""Digests of large files, cached until the files change.

The key is the device, inode, size and times of the files. A user can't set the change time (ctime)
back, so that a replaced file is always read again, and a moved one is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt2dsl.files import atomic, cache

LARGE = 64 * 2**20
"""Bytes above which digests are cached, so that a plan need not wait for them."""

SETTLED = 2.0
"""Seconds after a file's last change before its digest is cached: another change within one tick of
the file system's clock would go unnoticed."""


def computed(kind: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
    """Return the digest of files, from the cache where they are large and it is known.

    Raises:
        OSError: a file is absent or can't be read.
    """
    before = [path.stat() for path in files]
    if sum(status.st_size for status in before) <= LARGE:
        return compute()
    if digest := _read(kind, before):
        return digest
    digest = compute()
    settled = time.time() - max(status.st_ctime for status in before) > SETTLED
    if settled and list(map(_stamp, before)) == [_stamp(path.stat()) for path in files]:
        # A cache that can't be written only makes the next call slower.
        with contextlib.suppress(OSError):
            atomic.write_file(_note(kind, before), lambda file: file.write(digest.encode()))
    return digest


def known(kind: str, files: Sequence[Path], compute: Callable[[], str]) -> str | None:
    """Return the digest if files are small or it is cached, else None; see ``computed``."""
    status = [path.stat() for path in files]
    if sum(file.st_size for file in status) <= LARGE:
        return compute()
    return _read(kind, status)


def _stamp(status: os.stat_result) -> str:
    fields = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return ":".join(map(str, fields))


def _note(kind: str, files: Sequence[os.stat_result]) -> Path:
    stamps = "\n".join([kind, *map(_stamp, files)])
    return cache.folder("digests") / hashlib.sha256(stamps.encode()).hexdigest()


def _read(kind: str, files: Sequence[os.stat_result]) -> str | None:
    try:
        text = _note(kind, files).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text if len(text) in {32, 64} else None
