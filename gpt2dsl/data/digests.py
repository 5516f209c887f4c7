"""Digests of large files, remembered for as long as the files are the same.

A digest is kept under the device, inode, size and times of its files. The time of the last change
(ctime) can't be set back by a user, so that a file that was replaced is always read again, and one
that was moved is not.
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
"""Bytes from which digests are remembered: a plan must not wait for them."""

SETTLED = 2.0
"""Seconds after a file's last change before its digest is remembered: a second change within one
tick of the file system's clock would not show."""


def computed(kind: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
    """Return the digest of files, from memory where they are large and it is known.

    Args:
        kind: of the digest; one memory serves several.
        files: what it is of, in their order.
        compute: reads them.

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
        # A cache that can't be written makes the next time slower, no more.
        with contextlib.suppress(OSError):
            atomic.write_file(_note(kind, before), lambda file: file.write(digest.encode()))
    return digest


def known(kind: str, files: Sequence[Path], compute: Callable[[], str]) -> str | None:
    """Return the digest of files where it costs next to nothing, else None; as ``computed``."""
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
