"""Atomic folders, verifiable by checksums.

A folder is written beside its target under a hidden name, synced, given a manifest of checksums,
and renamed. A crash at any point leaves the previous state in place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import documents
from gpt2dsl.errors import FileError, InputError, RunError
from gpt2dsl.files import atomic
from gpt2dsl.weights.files.hashing import checksum

MANIFEST = "manifest.json"

_STEP = re.compile(r"step-(\d+)")


@contextmanager
def writing(
    final: Path,
    meta: dict[str, Any] | None = None,
    digests: dict[str, str] | None = None,
    *,
    replace: bool = False,
) -> Iterator[Path]:
    """Yield a folder to write into, which is renamed to ``final`` if the block succeeds.

    Args:
        final: the target; its parent is created if missing.
        meta: further entries of the manifest; the block may add to it.
        digests: file → checksum, filled in the block if known; all others are computed.
        replace: whether to replace an existing folder.

    Raises:
        RunError: the folder can't be written (a full disk), or ``final`` exists already.
    """
    final = final.absolute()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        atomic.sweep(final.parent)
        if final.exists() and not replace:
            raise RunError("G2-308", f"{final}: it is there already")
        with atomic.neighbour(final) as folder:
            folder.mkdir()
            yield folder
            _seal(folder, meta or {}, digests or {})
            _put(folder, final)
    except OSError as error:
        raise FileError.unwritable(final, error) from error


def _seal(folder: Path, meta: dict[str, Any], digests: dict[str, str]) -> None:
    """Sync all files, the manifest last: if it exists, so do all others."""
    files = {}
    for path in sorted(folder.rglob("*")):
        atomic.sync(path)
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            files[name] = {
                "size": path.stat().st_size,
                "xxh3": digests.get(name) or checksum(path),
            }
    content = {"gpt2dsl": metadata.version("gpt2dsl"), "meta": meta, "files": files}
    manifest = folder / MANIFEST
    manifest.write_text(documents.dumps(content, indent=2) + "\n", "utf-8")
    atomic.sync(manifest)
    atomic.sync(folder)


def _put(folder: Path, final: Path) -> None:
    """Rename the folder to its final name, moving an existing one out of the way."""
    if not final.exists():
        folder.rename(final)
        atomic.sync(final.parent)
        return
    with atomic.neighbour(final, "old") as old:
        final.rename(old)
        try:
            folder.rename(final)
            atomic.sync(final.parent)
        except BaseException:
            if not final.exists():
                old.rename(final)
            raise


def manifest(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's manifest.

    Raises:
        InputError: the folder is absent (G2-301), or its manifest is absent or damaged (G2-304).
    """
    path = folder / MANIFEST
    if not folder.exists():
        raise InputError("G2-301", folder, "there is no such folder")
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError("G2-304", folder, f"it has no {MANIFEST}: it is not whole") from None
    except OSError as error:
        raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        content = None
    if not _is_manifest(content):
        raise InputError("G2-304", path, "it is damaged: this is no manifest of ours")
    entries: dict[str, Any] = content
    return entries


def recorded(path: Path) -> dict[str, Any]:
    """Return the further entries of a folder's manifest; {} if there is none."""
    if not (path / MANIFEST).is_file():
        return {}
    entries: dict[str, Any] = manifest(path).get("meta") or {}
    return entries


def _is_manifest(content: Any) -> bool:
    files = content.get("files") if isinstance(content, dict) else None
    return isinstance(files, dict) and all(
        isinstance(known, dict)
        and type(known.get("size")) is int
        and type(known.get("xxh3")) is str
        for known in files.values()
    )


def verify(
    folder: Path, *, contents: bool = True, but: str = "", only: Container[str] | None = None
) -> None:
    """Raise an error if a folder differs from its manifest.

    Sizes always are compared, checksums if ``contents``: of the files in ``only``, if given, except
    of those that end in ``but``.

    Raises:
        InputError: it names the first absent or damaged file (G2-304).
    """
    for name, known in manifest(folder)["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != known["size"]:
                message = f"it is damaged: {size:,} bytes, {known['size']:,} were written"
                raise InputError("G2-304", path, message)
            is_compared = contents and (only is None or name in only)
            is_compared = is_compared and not (but and name.endswith(but))
            if is_compared and checksum(path) != known["xxh3"]:
                raise InputError("G2-304", path, "it is damaged: its checksum is not the written")
        except FileNotFoundError as error:
            raise InputError("G2-304", path, f"it is absent, but {MANIFEST} has it") from error
        except OSError as error:
            raise InputError("G2-304", path, f"it can't be read: {error.strerror}") from error


def steps(parent: Path) -> list[tuple[int, Path]]:
    """Return the subfolders ``step-<N>`` sorted by number, damaged ones included."""
    if not parent.is_dir():
        return []
    matches = ((_STEP.fullmatch(path.name), path) for path in parent.iterdir() if path.is_dir())
    return sorted((int(match[1]), path) for match, path in matches if match)


@attrs.frozen
class Newest:
    """The newest intact checkpoint, if any, and the faults of newer ones that were skipped."""

    step: int = -1
    folder: Path | None = None
    skipped: tuple[InputError, ...] = ()


def newest(parent: Path, *, contents: bool = True) -> Newest:
    """Return the intact checkpoint of the highest step; ``contents`` as in :func:`verify`."""
    atomic.sweep(parent)
    skipped: list[InputError] = []
    for step, folder in reversed(steps(parent)):
        fault = _fault(folder, contents=contents)
        if fault is None:
            return Newest(step, folder, tuple(skipped))
        skipped.append(fault)
    return Newest(skipped=tuple(skipped))


def prune(parent: Path, keep: int, spared: int | None = None) -> None:
    """Remove all but the ``keep`` newest checkpoints, and that of the step ``spared``.

    Damaged ones do not count, and are removed once enough newer ones are intact.
    """
    intact = 0
    for step, folder in reversed(steps(parent)):
        if step == spared:
            continue
        if intact < keep:
            intact += _fault(folder, contents=False) is None
            continue
        # Renamed first: a crash must not leave half a checkpoint under its name.
        with atomic.neighbour(folder) as removed:
            folder.rename(removed)


def _fault(folder: Path, *, contents: bool) -> InputError | None:
    try:
        verify(folder, contents=contents)
    except InputError as error:
        return error
    return None
