"""Digests of what a run reads. Names, times and paths decide nothing."""

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
    """Return one XXH3 digest of files, each under the role that it has for its reader.

    Raises:
        InputError: one is absent (G2-301) or can't be read (G2-304).
    """
    return _combined((role, of_file(path)) for role, path in files)


def known(files: Iterable[tuple[str, Path]]) -> str | None:
    """Return the digest that ``of_files`` computes where it costs next to nothing, else None."""
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
    """Return the XXH3 digest of a file; raises as ``of_files``."""
    try:
        return digests.computed(_KIND, [path], partial(checksum, path))
    except FileNotFoundError as error:
        raise InputError("G2-301", path, "there is no such file") from error
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror or error}") from error


def _combined(parts: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"{role}\0{digest}\n" for role, digest in sorted(parts))
    return xxhash.xxh3_128(lines.encode()).hexdigest()
