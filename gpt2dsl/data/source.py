"""Where text comes from: a file, a folder, a glob, or the sample that Python brings along."""

from __future__ import annotations

import codecs
import contextlib
import glob
import hashlib
import itertools
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from gpt2dsl.data import cache, digests, shards
from gpt2dsl.data.form import Form
from gpt2dsl.data.table import BadRows, Item, Row, rows
from gpt2dsl.data.wikitext import articles
from gpt2dsl.errors import InputError

BLOCK = 2**20
"""Bytes read at once."""

_RECORDS = re.compile(r".+\.mindrecord\d*")
"""Files of rows, and not their indexes."""

SAMPLES = ("sample:train", "sample:valid")
"""Names of the text that needs no file: the help topics of Python's standard library."""


@attrs.frozen
class File:
    """One file as it was when it was found."""

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int = 0

    @classmethod
    def at(cls, path: Path) -> File:
        """The file as it is now."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@attrs.frozen
class Source:
    """Text, found and not empty.

    Attributes:
        name: as the recipe has it.
        files: in the order in which they are read; empty ones are left out.
        texts: the documents of a sample, which has no files.
        form: how the files hold their texts.
    """

    name: str
    files: tuple[File, ...] = ()
    texts: tuple[str, ...] = attrs.field(default=(), repr=False)
    form: Form = attrs.field(factory=Form)

    @classmethod
    def find(cls, name: str, form: Form | None = None) -> Source | None:
        """The source, or None where it is absent.

        Args:
            name: a file; a folder, for all files below it that are not hidden, by name; a glob;
                ``sample:train`` or ``sample:valid``.
            form: of the files; plain text where it is not said.

        Raises:
            InputError: it is there but is empty (G2-302) or can't be looked at (G2-304).
        """
        if name.startswith("sample:"):
            texts = _sample(name)
            return cls(name, texts=texts) if texts else None
        try:
            paths = _paths(name)
            if paths is None:
                return None
            if form and form.format == "mindrecord":
                paths = shards.complete(path for path in paths if _RECORDS.fullmatch(path.name))
            files = tuple(file for file in map(File.at, paths) if file.size)
        except (OSError, ValueError) as error:
            raise _unreadable(name, error) from error
        if not files:
            what = "MindRecord file" if form and form.format == "mindrecord" else "text"
            raise InputError("G2-302", name, f"there is no {what} in it")
        return cls(name, files, form=form or Form())

    @classmethod
    def open(cls, name: str, form: Form | None = None) -> Source:
        """The source; absent is an error too (G2-301)."""
        if source := cls.find(name, form):
            return source
        known = f"; the samples are {' and '.join(SAMPLES)}" if name.startswith("sample:") else ""
        raise InputError("G2-301", name, f"there is no such file, folder or glob{known}")

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files) + sum(len(t.encode()) for t in self.texts)

    @property
    def unchanged(self) -> bool:
        """Whether the files still are what was found."""
        try:
            return all(File.at(file.path) == file for file in self.files)
        except OSError:
            return False

    def digest(self) -> str:
        """SHA-256 of the contents in their order, and of their form; names don't count.

        One file of text has the digest that ``sha256sum`` prints, several that of their digests.
        """
        return self._formed(self._digest())

    def known_digest(self) -> str | None:
        """The digest where it costs next to nothing, else None: a plan shows it as pending."""
        known = self._known_digest()
        return self._formed(known) if known else None

    def _formed(self, digest: str) -> str:
        if not self.form.identity:
            return digest
        return hashlib.sha256(f"{digest} {self.form.identity}".encode()).hexdigest()

    def _digest(self) -> str:
        try:
            return digests.computed("sha256", self._paths, self._computed)
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def _known_digest(self) -> str | None:
        try:
            return digests.known("sha256", self._paths, self._computed)
        except OSError as error:
            raise _unreadable(self.name, error) from error

    @property
    def _paths(self) -> list[Path]:
        return [file.path for file in self.files]

    def _computed(self) -> str:
        parts = [_sha256(file.path) for file in self.files]
        parts += [hashlib.sha256(text.encode()).hexdigest() for text in self.texts]
        if len(parts) == 1:
            return parts[0]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def documents(self) -> Iterator[str]:
        """The documents, without a byte-order mark: one a file of text, one a row, one an article.

        Raises:
            InputError: a file is not UTF-8 (G2-303) or can't be read (G2-304).
            SpecError: more rows than are borne can't be used (G2-309).
        """
        held: list[str] = []
        for text, last in self.blocks():
            held.append(text)
            if last:
                yield "".join(held)
                held = []

    def blocks(self) -> Iterator[tuple[str, bool]]:
        """The documents in blocks of about a megabyte; True marks a document's last block."""
        yield from ((text, True) for text in self.texts)
        if self.form.format == "wikitext":
            for file in self.files:
                yield from ((text, True) for text in articles(_lines(file.path)))
        elif self.form.format != "text":
            yield from ((row.text, True) for row in self.rows())
        else:
            yield from self._blocks()

    def rows(
        self,
        *,
        number: Callable[[str], object] | None = None,
        quiet: bool = False,
        first: int | None = None,
    ) -> Iterator[Row]:
        """The rows of tables.

        Args:
            number: is given each row's class, and raises BadRowError where there is no such one;
                None where the classes are not read.
            quiet: whether nothing is said of rows that are passed over.
            first: how many rows are looked at; all where it is None.

        Raises:
            SpecError: more rows than are borne can't be used (G2-309); it names them.
        """
        bad = BadRows(self.form.max_bad_rows)
        for file, item in itertools.islice(self._items(number), first):
            if not isinstance(item, Row):
                if not bad.note(file, *item):
                    break
            elif not bad.too_many:
                yield item
        bad.refuse(quiet=quiet)

    def _items(self, number: Callable[[str], object] | None) -> Iterator[tuple[Path, Item]]:
        for path in (file.path for file in self.files):
            with _refusing(path):
                yield from ((path, item) for item in rows(_lines(path), self.form, number))

    def _blocks(self) -> Iterator[tuple[str, bool]]:
        for file in self.files:
            held = ""
            for text in _decoded(file.path):
                if held:
                    yield held, False
                held = text
            if held:
                yield held, True


def _sample(name: str) -> tuple[str, ...]:
    """About a tenth of the topics is for validation; the checksum of its name sends it there."""
    if name not in SAMPLES:
        return ()
    try:
        from pydoc_data.topics import topics  # noqa: PLC0415  # half a megabyte, seldom wanted
    except ImportError:  # Some distributions leave it out.
        return ()
    valid = name == SAMPLES[1]
    chosen = sorted(topic for topic in topics if (zlib.crc32(topic.encode()) % 10 == 0) is valid)
    return tuple(topics[topic] for topic in chosen)


def _paths(name: str) -> list[Path] | None:
    """The files that a name stands for; None where there is nothing of that name."""
    path = cache.expanded(name)
    if name and path.exists():
        if path.is_dir():
            return sorted(_below(path))
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(0, "it is neither a file nor a folder")
        return [path]
    # pathlib's own takes no absolute pattern.
    found = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
    return sorted(match for match in found if match.is_file()) or None


def _below(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = (name for name in folders if not name.startswith("."))
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise _unreadable(path, error) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for block in _read(path):
        digest.update(block)
    return digest.hexdigest()


def _decoded(path: Path) -> Iterator[str]:
    """The text in blocks, none of them empty, without the byte-order mark."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, lines, first = 0, 1, True
    for block in itertools.chain(_read(path), [b""]):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            line = lines + before.count(b"\n")
            raise InputError("G2-303", path, _not_utf8(error, offset - pending, line)) from error
        offset += len(block)
        lines += text.count("\n")
        if first and text:
            first, text = False, text.removeprefix("\ufeff")
        if text:
            yield text


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """What is wrong with a table as a whole is wrong with its file."""
    try:
        yield
    except ValueError as error:
        raise InputError("G2-304", path, str(error)) from None


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, with their ends."""
    held = ""
    for text in _decoded(path):
        lines = (held + text).split("\n")
        held = lines.pop()
        yield from (line + "\n" for line in lines)
    if held:
        yield held


def _not_utf8(error: UnicodeDecodeError, base: int, line: int) -> str:
    at = base + error.start
    hint = ""
    if at <= 1 and error.object[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        hint = "; it looks like UTF-16"
    wrong = error.object[error.start]
    return f"byte 0x{wrong:02x} at offset {at}, line {line}, is not UTF-8{hint}"


def _unreadable(path: object, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError("G2-304", path, f"it can't be read: {reason}")
