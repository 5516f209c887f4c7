"""A file whose checksum is ready when it is written, and that another thread writes.

The checksum is XXH3 of 128 bits: it proves that bytes are what was written, as SHA-256 would, at
ten times the speed; against somebody who changes the manifest too neither helps.
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
"""Blocks that may wait to be written; each is in memory until then."""

READ = 2**19
"""Bytes that :func:`checksum` reads at once."""


class HashedFile:
    """A file to write into; one thread reads and computes while the other writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = xxhash.xxh3_128()
        self._blocks: Queue[memoryview | bytes | None] = Queue(AHEAD)
        self._error: OSError | None = None
        self._thread = Thread(target=self._write_behind, daemon=True)
        self._thread.start()

    def write(self, block: memoryview | bytes) -> None:
        """Write a block, which must not change any more.

        Raises:
            OSError: a block before it could not be written.
        """
        if self._error:
            raise self._error
        self._digest.update(block)
        self._blocks.put(block)

    def end(self) -> None:
        """Wait until all is written."""
        self._blocks.put(None)
        self._thread.join()

    def checksum(self) -> str:
        """Of all that was written.

        Raises:
            OSError: it was not.
        """
        if self._error:
            raise self._error
        return self._digest.hexdigest()

    def _write_behind(self) -> None:
        while (block := self._blocks.get()) is not None:
            if self._error:  # What comes after is taken and forgotten, that nobody waits for room.
                continue
            try:
                rest = memoryview(block).cast("B")
                while rest:  # One write takes 2 GiB at most, and less where the disk gets full.
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                self._error = error


@contextmanager
def hashed(path: Path) -> Iterator[HashedFile]:
    """Yield a new file at a path.

    Raises:
        OSError: the disk is full or can't be written.
    """
    with path.open("wb", buffering=0) as file:
        written = HashedFile(file)
        try:
            yield written
        finally:
            written.end()
        written.checksum()


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
