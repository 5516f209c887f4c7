"""A file whose checksum is ready when it is written: another thread computes it meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import BinaryIO

AHEAD = 4
"""Blocks that may wait to be hashed; each is in memory until then."""


class HashedFile:
    """A file to write into; :attr:`sha256` is there once the block of :func:`hashed` has ended."""

    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = ""
        self._file = file
        self._blocks: Queue[memoryview | bytes | None] = Queue(AHEAD)
        self._thread = Thread(target=self._hash, daemon=True)
        self._thread.start()

    def write(self, block: memoryview | bytes) -> None:
        """Writes a block, which must not change any more."""
        self._blocks.put(block)
        self._file.write(block)

    def end(self) -> None:
        """Waits for the checksum."""
        self._blocks.put(None)
        self._thread.join()

    def _hash(self) -> None:
        digest = hashlib.sha256()
        while (block := self._blocks.get()) is not None:
            digest.update(block)
        self.sha256 = digest.hexdigest()


@contextmanager
def hashed(path: Path) -> Iterator[HashedFile]:
    """A new file at a path.

    Raises:
        OSError: the disk is full or can't be written.
    """
    with path.open("wb") as file:
        written = HashedFile(file)
        try:
            yield written
        finally:
            written.end()
