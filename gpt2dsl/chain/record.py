"""What a stage has left behind, and whether it is still there: ``stage.json`` in its directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import xxhash

from gpt2dsl.chain.key import Key
from gpt2dsl.data import documents
from gpt2dsl.errors import InputError, RunError
from gpt2dsl.files import atomic
from gpt2dsl.identity import contents
from gpt2dsl.weights.files.hashing import checksum

FILE = "stage.json"
CLAIM = "begun.json"


@attrs.frozen
class Trace:
    """A file as it was written."""

    size: int
    mtime_ns: int
    xxh3: str

    @classmethod
    def of(cls, path: Path) -> Trace:
        """Return the file as it is; raises OSError where it can't be read."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, checksum(path))

    def is_at(self, path: Path, *, thorough: bool) -> bool:
        """Return whether the file is as it was.

        A copy has other times: it is read, as every file is for a thorough look.
        """
        try:
            status = path.stat()
            if status.st_size != self.size:
                return False
            if not thorough and status.st_mtime_ns == self.mtime_ns:
                return True
            return contents.of_file(path) == self.xxh3
        except (OSError, InputError):
            return False


@attrs.frozen(kw_only=True)
class Record:
    """A stage that ran to its end.

    Attributes:
        number: of the stage, from 1.
        task: its kind.
        key: what decided its result.
        taken: digest of the weights that an earlier stage gave; "" where it took none.
        files: what it wrote.
        weights: of them the weights that it gives; "" where it gives none.
        result: as result.json has it.
        text: the result as people read it.
        author: the file that says the chain, seen from its folder; "" where that is not known.
    """

    number: int
    task: str
    key: Key
    taken: str
    files: Mapping[str, Trace]
    weights: str
    result: Mapping[str, Any]
    text: str
    author: str = ""

    @property
    def given(self) -> str:
        """Digest of the weights that it gave: of the names and checksums of their files."""
        found, folder = xxhash.xxh3_128(), Path(self.weights)
        for name, trace in sorted(self.files.items()):
            if folder in (Path(name), *Path(name).parents):
                found.update(f"{Path(name).relative_to(folder)} {trace.xxh3}\n".encode())
        return found.hexdigest()

    def wrong(self, *, thorough: bool) -> str:
        """What is no longer as it was written; "" where all is.

        Args:
            thorough: read every file; else sizes and times of change are looked at.
        """
        for name, trace in self.files.items():
            if not trace.is_at(Path(name), thorough=thorough):
                return f"{name} is {'changed' if Path(name).exists() else 'gone'}"
        return ""

    def wrote(self, target: Path) -> bool:
        """Return whether all that lies at a target is what this stage wrote there, unchanged."""
        there = set(_files([target]))
        return bool(there) and all(
            str(path) in self.files and self.files[str(path)].is_at(path, thorough=False)
            for path in there
        )

    def write(self, directory: Path) -> None:
        """Write it.

        Raises:
            RunError: the disk is full or can't be written.
        """
        document = attrs.asdict(self) | {"key": self.key.to_json()}
        _write(directory / FILE, documents.dumps(document, indent=2) + "\n")


@attrs.frozen(kw_only=True)
class Claim:
    """Targets that a stage has begun to write; where its process was killed, no record follows.

    Attributes:
        targets: none of them was there when it began.
        author: as in ``Record``.
        began_ns: when, by the clock of the file system.
        path: the file that says so.
    """

    targets: tuple[str, ...]
    author: str
    began_ns: int
    path: Path

    def wrote(self, target: Path) -> bool:
        """Return whether a target came to be there since."""
        try:
            return str(target) in self.targets and target.lstat().st_ctime_ns >= self.began_ns
        except OSError:
            return False


@contextmanager
def claiming(directory: Path, targets: Sequence[Path], author: str) -> Iterator[None]:
    """Say that targets are being written, until ``settle``, or until the block fails.

    Raises:
        RunError: the disk is full or can't be written.
    """
    if not targets:
        yield
        return
    path = directory / CLAIM
    _write(path, documents.dumps({"targets": list(map(str, targets)), "author": author}))
    try:
        yield
    except BaseException:
        if not any(map(os.path.lexists, targets)):
            path.unlink(missing_ok=True)
        raise


def settle(folder: Path, targets: Sequence[Path], author: str) -> None:
    """Forget what was begun at targets that a record tells of now, by whichever stage.

    A word that stayed would make what somebody else puts there later the chain's own.
    """
    for claim in claims(folder):
        if claim.author == author and {*claim.targets} & {*map(str, targets)}:
            claim.path.unlink(missing_ok=True)


def claims(folder: Path) -> list[Claim]:
    """Return what killed stages of a chain's folder had begun to write."""
    result = []
    for path in folder.glob(f"*/{CLAIM}"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            document = json.loads(path.read_bytes())
            targets, began = tuple(document["targets"]), path.stat().st_mtime_ns
            author = document["author"]
            result.append(Claim(targets=targets, author=author, began_ns=began, path=path))
    return result


def traces(paths: Iterable[Path]) -> dict[str, Trace]:
    """Every file at and below paths, as it is now; raises OSError where one can't be read."""
    return {str(file): Trace.of(file) for file in _files(paths)}


def _write(path: Path, text: str) -> None:
    try:
        atomic.write_file(path, lambda file: file.write(text.encode()))
    except OSError as error:
        message = f"{path}: it can't be written: {error.strerror or error}"
        raise RunError(message) from error


def read(directory: Path) -> Record | None:
    """The record of a stage; None where there is none, or it is damaged: the stage runs again."""
    try:
        document = json.loads((directory / FILE).read_bytes())
        files = {name: Trace(**trace) for name, trace in document.pop("files").items()}
        key = Key.from_json(document["key"])
        return Record(**{**document, "key": key, "files": files})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def below(folder: Path) -> list[Record]:
    """Return the records of a chain, the newest first."""
    found = sorted(folder.glob(f"*/{FILE}"), key=lambda path: -path.stat().st_mtime_ns)
    return [one for path in found if (one := read(path.parent))]


def _files(paths: Iterable[Path]) -> list[Path]:
    return [
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.is_file()
    ]
