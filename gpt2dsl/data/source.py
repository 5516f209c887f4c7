"""Sources of text: a file, a folder, a glob, or the sample in the package."""

from __future__ import annotations

import codecs
import contextlib
import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import attrs

from gpt2dsl import terminal
from gpt2dsl.data import digests, paths, shards
from gpt2dsl.data.bad_rows import BadRows
from gpt2dsl.data.form import RECORDS, DataFormat
from gpt2dsl.data.header import SEPARATORS
from gpt2dsl.data.paths import Passed
from gpt2dsl.data.table import Item, TableRow, rows
from gpt2dsl.data.wikitext import articles
from gpt2dsl.errors import InputError, some

BLOCK = 2**20
"""Number of bytes per read."""

SAMPLES = ("sample:train", "sample:valid")
"""Names of the sample text, a novel in the public domain that the package includes."""

_NOVEL = Path(__file__).parent / "sample" / "pride-and-prejudice.txt"


Digest = TypeVar("Digest", str, str | None)

Number = Callable[[str], object]
"""Function from the class of a row to its number."""


@attrs.frozen
class Preview:
    """Result of examining a table.

    Attributes:
        rows: number of usable rows.
        bad: messages on skipped rows.
        enclosed: messages on quotes that may be plain text.
    """

    rows: int
    bad: tuple[str, ...] = ()
    enclosed: tuple[str, ...] = ()


@attrs.frozen
class File:
    """A file, with its size and timestamps when it was found.

    Attributes:
        mtime_ns: modification time, which programs can set.
        ctime_ns: time of the last change of content or metadata, which programs can't set.
    """

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int = attrs.field(default=0, eq=False)

    @classmethod
    def at(cls, path: Path) -> File:
        """Return the file with its current size and times."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@attrs.frozen
class Source:
    """An existing, non-empty source of text.

    Attributes:
        files: non-empty files, in reading order.
        texts: documents of a sample, which has no files.
        passed: skipped paths, with the reason.
    """

    name: str
    files: tuple[File, ...] = ()
    texts: tuple[str, ...] = attrs.field(default=(), repr=False)
    form: DataFormat = attrs.field(factory=DataFormat)
    passed: tuple[Passed, ...] = attrs.field(default=(), eq=False, repr=False)

    @classmethod
    def find(cls, name: str, form: DataFormat | None = None) -> Source | None:
        """Return the source, or None if it is absent.

        Args:
            name: a file; a folder, for all files below it that are not hidden, sorted by name; a
                glob; ``sample:train`` or ``sample:valid``.
            form: format of the files; plain text by default.

        Raises:
            InputError: it is empty (G2-302) or unreadable (G2-304).
        """
        if name.startswith("sample:"):
            texts = _sample(name)
            return cls(name, texts=texts) if texts else None
        try:
            candidates = paths.find(name)
            if candidates is None:
                return None
            if form and form.format == "mindrecord":
                candidates = candidates.without(_no_records)
                candidates = attrs.evolve(candidates, taken=shards.complete(candidates.taken))
            candidates = candidates.without(_is_empty)
            files = tuple(map(File.at, candidates.taken))
        except (OSError, ValueError) as error:
            raise _unreadable(name, error) from error
        if not files:
            wanted = "MindRecord file" if form and form.format == "mindrecord" else "text"
            others = some(f"{path}: {why}" for path, why in candidates.passed)
            words = f"there is no {wanted} in it" + (f"; passed over: {others}" if others else "")
            raise InputError("G2-302", name, words)
        indexes = {path.with_name(f"{path.name}.db") for path in candidates.taken}
        passed = tuple(entry for entry in candidates.passed if entry[0] not in indexes)
        return cls(name, files, form=form or DataFormat(), passed=passed)

    @classmethod
    def open(cls, name: str, form: DataFormat | None = None) -> Source:
        """Do the same as :meth:`find`, but raise InputError if the source is absent (G2-301)."""
        if source := cls.find(name, form):
            return source
        known = f"; the samples are {' and '.join(SAMPLES)}" if name.startswith("sample:") else ""
        raise InputError("G2-301", name, f"there is no such file, folder or glob{known}")

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files) + sum(len(t.encode()) for t in self.texts)

    def without_rows(self) -> InputError:
        """Return the error of a source without usable rows."""
        words = "there is no usable row in it"
        if self.form.format in SEPARATORS and self.form.header:
            words += "; its first row is the header, unless data.header = false"
        return InputError("G2-302", self.name, words)

    @property
    def unchanged(self) -> bool:
        """Whether no file has changed since it was found."""
        try:
            return all(File.at(file.path) == file for file in self.files)
        except OSError:
            return False

    def digest(self) -> str:
        """Return the SHA-256 of the contents, in order, and of the format, without file names.

        For one text file it equals the output of ``sha256sum``; for several, it is the digest of
        their digests.
        """
        return self._formed(self._cached(digests.computed))

    def known_digest(self) -> str | None:
        """Return the digest if it is cached or fast to compute, else None (pending in a plan)."""
        known = self._cached(digests.known)
        return self._formed(known) if known else None

    def _formed(self, digest: str) -> str:
        if not self.form.identity:
            return digest
        return hashlib.sha256(f"{digest} {self.form.identity}".encode()).hexdigest()

    def _cached(self, digest_of: Callable[..., Digest]) -> Digest:
        try:
            return digest_of("sha256", [file.path for file in self.files], self._computed)
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def _computed(self) -> str:
        parts = [_sha256(file.path) for file in self.files]
        parts += [hashlib.sha256(text.encode()).hexdigest() for text in self.texts]
        if len(parts) == 1:
            return parts[0]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def documents(self) -> Iterator[str]:
        """Yield documents: text files without byte-order marks, rows, or articles of WikiText.

        Raises:
            InputError: a file is not UTF-8 (G2-303) or can't be read (G2-304).
            SpecError: the number of unusable rows exceeds max_bad_rows (G2-309).
        """
        blocks: list[str] = []
        for text, last in self.blocks():
            blocks.append(text)
            if last:
                yield "".join(blocks)
                blocks = []

    def blocks(self) -> Iterator[tuple[str, bool]]:
        """Yield documents in blocks of about a megabyte, each with whether it ends a document."""
        yield from ((text, True) for text in self.texts)
        if self.form.format == "wikitext":
            for file in self.files:
                yield from ((text, True) for text in articles(_lines(file.path)))
        elif self.form.format != "text":
            yield from ((row.text, True) for row in self.rows())
        else:
            yield from self._blocks()

    def rows(self, *, number: Number | None = None) -> Iterator[TableRow]:
        """Yield the rows of tables, and report skipped rows once per process.

        Args:
            number: raises BadRowError for an unknown class; None to ignore classes.

        Raises:
            SpecError: the number of unusable rows exceeds max_bad_rows (G2-309); it lists them.
        """
        bad = BadRows(self.form.max_bad_rows)
        for file, row in self._good(bad, number, None):
            if row.enclosed and (words := self._enclosed(file, row)) not in _told:
                _told.add(words)
                terminal.say(words)
            yield row
        for words in bad.words():
            _tell_passed(words)

    def look(self, *, number: Number | None = None, first: int | None = None) -> Preview:
        """Examine the first rows, or all if ``first`` is None.

        ``number`` and the errors are the same as for :meth:`rows`. Messages returned here are not
        reported again when the rows are read.
        """
        bad, count, enclosed = BadRows(self.form.max_bad_rows), 0, list[str]()
        for file, row in self._good(bad, number, first):
            count += 1
            if row.enclosed:
                enclosed.append(self._enclosed(file, row))
        _told.update(enclosed)
        return Preview(count, bad.words(), tuple(enclosed))

    def _enclosed(self, file: Path, row: TableRow) -> str:
        """Return a message on quotes in a row that may enclose several rows."""
        message = f"quotes enclose {row.enclosed} lines and their tabs as one value"
        return f"{file}:{row.line}: {message}; {self.form.plain_quotes} reads quotes as plain text"

    def _good(
        self, bad: BadRows, number: Number | None, first: int | None
    ) -> Iterator[tuple[Path, TableRow]]:
        for file, item in itertools.islice(self._items(number), first):
            if not isinstance(item, TableRow):
                if not bad.note(file, item):
                    break
            elif not bad.too_many:
                yield file, item
        bad.refuse()

    def _items(self, number: Number | None) -> Iterator[tuple[Path, Item]]:
        for path in (file.path for file in self.files):
            with _refusing(path):
                yield from ((path, item) for item in rows(_lines(path), self.form, number))

    def _blocks(self) -> Iterator[tuple[str, bool]]:
        for file in self.files:
            previous = ""
            for text in _decoded(file.path):
                if previous:
                    yield previous, False
                previous = text
            if previous:
                yield previous, True


def _no_records(path: Path) -> str:
    return "" if RECORDS.fullmatch(path.name) else "its name does not end as .mindrecord"


def _is_empty(path: Path) -> str:
    return "" if path.stat().st_size else "empty"


_told: set[str] = set()
"""Messages on quotes that this process has already reported or returned to a plan."""


@functools.cache
def _tell_passed(words: str) -> None:
    terminal.say(f"passed over: {words}")


@functools.cache
def _sample(name: str) -> tuple[str, ...]:
    """Return the chapters of a sample; every tenth chapter of the novel is for validation."""
    if name not in SAMPLES:
        return ()
    text = _NOVEL.read_text("utf-8")
    chapters = re.split(r"^(?=Chapter \d+$)", text, flags=re.MULTILINE)[1:]
    valid = name == SAMPLES[1]
    return tuple(
        chapter for number, chapter in enumerate(chapters, 1) if (number % 10 == 0) is valid
    )


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
    """Yield the text of a file in non-empty blocks, without the byte-order mark."""
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
    """Convert a ValueError, a fault of the whole table, to an InputError (G2-304)."""
    try:
        yield
    except ValueError as error:
        raise InputError("G2-304", path, str(error)) from None


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, with their line ends."""
    pending = ""
    for text in _decoded(path):
        lines = (pending + text).split("\n")
        pending = lines.pop()
        yield from (line + "\n" for line in lines)
    if pending:
        yield pending


def _not_utf8(error: UnicodeDecodeError, base: int, line: int) -> str:
    at = base + error.start
    hint = ""
    if not base and (packed := _compression(error.object)):
        return f"it is compressed with {packed}: unpack it, and name what comes out"
    if at <= 1 and error.object[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        hint = "; it looks like UTF-16"
    byte = error.object[error.start]
    return f"byte 0x{byte:02x} at offset {at}, line {line}, is not UTF-8{hint}"


_COMPRESSED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a file → program that compresses such files."""


def _compression(content: bytes) -> str:
    """Return the program that compressed a file, from its first bytes; "" if it is unknown."""
    return next((name for magic, name in _COMPRESSED.items() if content.startswith(magic)), "")


def _unreadable(path: object, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError("G2-304", path, f"it can't be read: {reason}")
