"""Headers of MindRecord files: shards, columns, and the least size of the file.

A file begins with eight bytes of length and a JSON text; pages of equal size follow a header of
fixed size (MindSpore, minddata/mindrecord: shard_header.cc).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpt2dsl.errors import InputError

LONGEST = 2**28
"""Most bytes of a header."""


def complete(paths: Iterable[Path]) -> list[Path]:
    """Return the files and all shards that were written with them, each once.

    MindSpore, too, reads all shards where one is named.

    Raises:
        InputError: a shard is absent (G2-301), or a file is no complete MindRecord file (G2-304).
    """
    waiting, checked = deque(paths), set()
    while waiting:
        path = waiting.popleft()
        if path in checked:
            continue
        checked.add(path)
        names = _checked(path)
        # A single shard may have been renamed since.
        for shard in (path.with_name(name) for name in names if len(names) > 1):
            if not shard.exists():
                raise InputError("G2-301", shard, f"{path.name} was written with it: it is absent")
            waiting.append(shard)
    return sorted(checked)


def columns(path: Path) -> list[str]:
    """Return the names of the columns of a file.

    Raises:
        InputError: its header can't be read (G2-304).
    """
    try:
        return [str(name) for part in _header(path)["schema"] for name in part["schema"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError("G2-304", path, "it does not begin as a MindRecord file does") from None


def _checked(path: Path) -> list[str]:
    """Return the names of a file's shards; refuse one that is truncated."""
    try:
        header = _header(path)
        pages = [(page["page_id"], page["page_size"]) for page in header["page"]]
        ends = [number * header["page_size"] + size for number, size in pages]
        needed = header["header_size"] + max(ends, default=0)
        names = [str(name) for name in header["shard_addresses"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError("G2-304", path, "it does not begin as a MindRecord file does") from None
    if (size := path.stat().st_size) < needed:
        message = f"it is cut short: it has {size:,} bytes, its header says {needed:,}"
        raise InputError("G2-304", path, message)
    return names


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < LONGEST:
            raise ValueError(length)
        content = json.loads(file.read(length))
    return dict(content)
