"""Files selected by a name of data, and files that are skipped."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from gpt2dsl.files import cache

Passed = tuple[Path, str]
"""A path that is skipped, and the reason."""


@attrs.frozen
class Paths:
    """Files that a name of data selects, in order, and paths that are skipped, with the reason."""

    taken: list[Path]
    passed: list[Passed] = attrs.field(factory=list)

    def without(self, reason: Callable[[Path], str]) -> Paths:
        """Return the paths, skipping those for which ``reason`` returns a reason."""
        reasons = [(path, reason(path)) for path in self.taken]
        passed = [*self.passed, *((path, why) for path, why in reasons if why)]
        return Paths([path for path, why in reasons if not why], passed)


def find(name: str) -> Paths | None:
    """Return the files that a name stands for; None where nothing has that name.

    Args:
        name: a file; a folder, for all files below it that are not hidden; or a glob.

    Raises:
        OSError: the path can't be read, or is neither a file nor a folder.
    """
    if not name:
        return None
    path = cache.expanded(name)
    if path.exists():
        if path.is_dir():
            return _sorted(_below(path))
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(0, "it is neither a file nor a folder")
        return Paths([path])
    # Path.glob accepts no absolute pattern.
    matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
    is_deep = path.name == "**" or path.parts[-2:] == ("**", "*")
    paths = _sorted((match, _of_match(match, is_deep=is_deep)) for match in matches)
    looked_into = {folder for taken in paths.taken for folder in taken.parents}
    passed = [entry for entry in paths.passed if entry[0] not in looked_into]
    return Paths(paths.taken, passed) if paths.taken or passed else None


def _sorted(paths: Iterator[Passed]) -> Paths:
    listed = sorted(paths)
    return Paths([path for path, why in listed if not why], [entry for entry in listed if entry[1]])


def _below(folder: Path) -> Iterator[Passed]:
    """Yield every path below a folder, with the reason to skip it; "" for none."""

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail):
        within = [Path(parent, name) for name in folders]
        folders[:] = (path.name for path in within if not _of_folder(path))
        yield from ((path, why) for path in within if (why := _of_folder(path)))
        yield from ((path, _of_file(path)) for path in (Path(parent, name) for name in names))


def _of_folder(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    return "a link to a folder, which is not followed" if path.is_symlink() else ""


def _of_file(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_file():
        return ""
    return "a link to nothing" if path.is_symlink() else "neither a file nor a folder"


def _of_match(path: Path, *, is_deep: bool) -> str:
    """Return the reason to skip a match, "" for none; a deep glob looks into every folder."""
    if any(map(_leads_back, (path, *path.parents))):
        return "a link leads back to a folder above it"
    if path.is_dir():
        if is_deep:
            return "a folder of which the glob takes no file"
        return "a folder, which a glob does not look into: name it, or end the glob with **"
    if path.is_file():
        return ""
    return "a link to nothing" if path.is_symlink() else "neither a file nor a folder"


def _leads_back(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
