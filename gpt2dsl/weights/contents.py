"""Digests of a run's input files, by content alone: names, times and paths do not matter."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import xxhash

from gpt2dsl.data import digests
from gpt2dsl.errors import InputError
from gpt2dsl.weights.files.hashing import checksum

_KIND = "xxh3"


def of_files(files: Iterable[tuple[str, Path]]) -> str:
    """Return one XXH3 digest over files and their roles.

    Raises:
        InputError: a file is missing (G2-301) or can't be read (G2-304).
    """
    return _combined((role, of_file(path)) for role, path in files)


def known(files: Iterable[tuple[str, Path]]) -> str | None:
    """Return the digest of ``of_files`` if it is cheap to obtain, else None."""
    parts = []
    for role, path in files:
        try:
            digest = digests.known(_KIND, [path], partial(checksum, path))
        except OSError:
            return None
        if digest is None:
            return None
        parts.append((role, digest))
    return _combined(parts)


def of_file(path: Path) -> str:
    """Return the XXH3 digest of a file; raise the errors of ``of_files``."""
    try:
        return digests.computed(_KIND, [path], partial(checksum, path))
    except FileNotFoundError as error:
        raise InputError("G2-301", path, "there is no such file") from error
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror or error}") from error


def _combined(parts: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"{role}\0{digest}\n" for role, digest in sorted(parts))
    return xxhash.xxh3_128(lines.encode()).hexdigest()
