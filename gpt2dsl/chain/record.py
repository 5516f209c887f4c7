"""Records of finished stages, ``stage.json`` in the run directory, and their verification."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import xxhash

from gpt2dsl.chain.key import StageKey
from gpt2dsl.data import documents
from gpt2dsl.errors import FileError, InputError
from gpt2dsl.files import atomic
from gpt2dsl.weights import contents
from gpt2dsl.weights.files.hashing import checksum

FILE = "stage.json"
CLAIM = "begun.json"


@attrs.frozen
class Trace:
    """Size, modification time and checksum of a file when it was written."""

    size: int
    mtime_ns: int
    xxh3: str

    @classmethod
    def of(cls, path: Path) -> Trace:
        """Return the trace of a file as it is now; OSError if it can't be read."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, checksum(path))

    def is_at(self, path: Path, *, thorough: bool) -> bool:
        """Return whether the file is unchanged.

        A copy has another modification time, so it is read; ``thorough`` reads every file.
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
    """The record of a finished stage.

    Attributes:
        taken: digest of the weights taken from an earlier stage; "" where it took none.
        files: path → trace of each file that it wrote.
        weights: path of the weights that it outputs; "" where it outputs none.
        result: the result, as in result.json.
        author: the file that defines the chain, relative to its folder; "" where unknown.
    """

    number: int
    task: str
    key: StageKey
    taken: str
    files: Mapping[str, Trace]
    weights: str
    result: Mapping[str, Any]
    text: str
    author: str = ""

    @property
    def output_digest(self) -> str:
        """Digest of the output weights: of the names and checksums of their files."""
        digest, folder = xxhash.xxh3_128(), Path(self.weights)
        for name, trace in sorted(self.files.items()):
            if folder in (Path(name), *Path(name).parents):
                digest.update(f"{Path(name).relative_to(folder)} {trace.xxh3}\n".encode())
        return digest.hexdigest()

    def wrong(self, *, thorough: bool) -> str:
        """Return the first file that has changed or is gone, or ""; read every file if thorough."""
        for name, trace in self.files.items():
            if not trace.is_at(Path(name), thorough=thorough):
                return f"{name} is {'changed' if Path(name).exists() else 'gone'}"
        return ""

    def wrote(self, target: Path) -> bool:
        """Return whether a target exists with only unchanged outputs of the stage in it."""
        present = set(_files([target]))
        return bool(present) and all(
            str(path) in self.files and self.files[str(path)].is_at(path, thorough=False)
            for path in present
        )

    def write(self, directory: Path) -> None:
        """Write the record to a run directory.

        Raises:
            RunError: the file can't be written, as when the disk is full.
        """
        document = attrs.asdict(self) | {"key": self.key.to_json()}
        _write(directory / FILE, documents.dumps(document, indent=2) + "\n")


@attrs.frozen(kw_only=True)
class Claim:
    """A claim to targets, absent before, that a stage has begun to write.

    Where the process was killed, no record follows. ``began_ns`` is by the file system's clock.
    """

    targets: tuple[str, ...]
    author: str
    began_ns: int
    path: Path

    def wrote(self, target: Path) -> bool:
        """Return whether a target was created after the claim."""
        try:
            return str(target) in self.targets and target.lstat().st_ctime_ns >= self.began_ns
        except OSError:
            return False


@contextmanager
def claiming(directory: Path, targets: Sequence[Path], author: str) -> Iterator[None]:
    """Claim targets from here until ``settle``, or until the block fails without creating any.

    Raises:
        RunError: the file can't be written, as when the disk is full.
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
    """Remove the claims of any stage to targets that now have a record.

    With a stale claim, the chain would take files that somebody else puts there later for its own.
    """
    for claim in claims(folder):
        if claim.author == author and {*claim.targets} & {*map(str, targets)}:
            claim.path.unlink(missing_ok=True)


def claims(folder: Path) -> list[Claim]:
    """Return the claims that killed stages have left in the folder of a chain."""
    result = []
    for path in folder.glob(f"*/{CLAIM}"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            document = json.loads(path.read_bytes())
            targets, began = tuple(document["targets"]), path.stat().st_mtime_ns
            author = document["author"]
            result.append(Claim(targets=targets, author=author, began_ns=began, path=path))
    return result


def traces(paths: Iterable[Path]) -> dict[str, Trace]:
    """Return the trace of every file at and below paths; OSError if one can't be read."""
    return {str(file): Trace.of(file) for file in _files(paths)}


def _write(path: Path, text: str) -> None:
    try:
        atomic.write_file(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise FileError.unwritable(path, error) from error


def read(directory: Path) -> Record | None:
    """Return the record of a stage, None if it is missing or corrupt: the stage then runs again."""
    try:
        document = json.loads((directory / FILE).read_bytes())
        files = {name: Trace(**trace) for name, trace in document.pop("files").items()}
        key = StageKey.from_json(document["key"])
        return Record(**{**document, "key": key, "files": files})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def below(folder: Path) -> list[Record]:
    """Return the records in the folder of a chain, newest first."""
    paths = sorted(folder.glob(f"*/{FILE}"), key=lambda path: -path.stat().st_mtime_ns)
    return [record for path in paths if (record := read(path.parent))]


def _files(paths: Iterable[Path]) -> list[Path]:
    return [
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.is_file()
    ]
