"""File writes in a background thread, with a checksum computed on the way.

The checksum is 128-bit XXH3: it detects corruption as reliably as SHA-256 at ten times the speed;
neither protects against an attacker who also changes the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import BinaryIO

import xxhash

AHEAD = 4
"""Maximum number of blocks queued for writing; each stays in memory until it is written."""

READ = 2**19
"""Bytes per read in :func:`checksum`."""


class HashedFile:
    """A file open for writing: the caller reads and hashes while a thread writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = xxhash.xxh3_128()
        self._blocks: Queue[memoryview | bytes | None] = Queue(AHEAD)
        self._error: OSError | None = None
        self._thread = Thread(target=self._write_behind, daemon=True)
        self._thread.start()

    def write(self, block: memoryview | bytes) -> None:
        """Hash a block and queue it for writing; it must not change afterwards.

        Raises:
            OSError: an earlier block could not be written.
        """
        if self._error:
            raise self._error
        self._digest.update(block)
        self._blocks.put(block)

    def end(self) -> None:
        """Wait until all blocks are written."""
        self._blocks.put(None)
        self._thread.join()

    def checksum(self) -> str:
        """Return the checksum of all blocks.

        Raises:
            OSError: a block could not be written.
        """
        if self._error:
            raise self._error
        return self._digest.hexdigest()

    def _write_behind(self) -> None:
        while (block := self._blocks.get()) is not None:
            if self._error:  # Drain the queue, so that the writer never blocks on it.
                continue
            try:
                remaining = memoryview(block).cast("B")
                while remaining:  # One write takes at most 2 GiB, less when the disk fills up.
                    remaining = remaining[self._file.write(remaining) :]
            except OSError as error:
                self._error = error


@contextmanager
def hashed(path: Path) -> Iterator[HashedFile]:
    """Create a file and yield it; wait for its writes on exit.

    Raises:
        OSError: the disk is full or not writable.
    """
    with path.open("wb", buffering=0) as file:
        hashed_file = HashedFile(file)
        try:
            yield hashed_file
        finally:
            hashed_file.end()
        hashed_file.checksum()


def checksum(path: Path) -> str:
    """Return the checksum of a file.

    Raises:
        OSError: it can't be read.
    """
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while block := file.read(READ):
            digest.update(block)
    return digest.hexdigest()
