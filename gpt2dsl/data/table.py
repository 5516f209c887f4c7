"""Rows of text and class: jsonl, csv, tsv, and four data sets in their original formats."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import attrs
from typing_extensions import ParamSpec

from gpt2dsl.data import header
from gpt2dsl.data.form import Column, DataFormat
from gpt2dsl.errors import Fault, SpecError, counted, some
from gpt2dsl.schema.fate import shown

# Reviews may exceed the 128 KB field limit of Python's reader.
csv.field_size_limit(2**31 - 1 if sys.maxsize > 2**31 else sys.maxsize)


P = ParamSpec("P")


PLAIN = "; data.quotes = false reads quotes as plain text"


class BadRowError(Exception):
    """An unusable row; the message is the reason."""


@attrs.frozen
class TableRow:
    """A row of a table.

    Attributes:
        line: number of its first line.
        label: class; "" where classes are not read.
        enclosed: lines with tabs that quotes of a tsv enclose, which may be rows.
    """

    line: int
    text: str
    label: str = ""
    enclosed: int = attrs.field(default=0, eq=False)


Item = TableRow | tuple[int, str]
"""A row, or line and message of an unusable one."""


@attrs.frozen
class _Dialect:
    """Original format of a data set; ``row`` makes text and class of the columns."""

    delimiter: str
    quoted: bool
    fields: int
    header: tuple[str, ...]
    row: Callable[[list[str]], tuple[str, str]]


def _numbered(label: str, known: tuple[str, ...]) -> str:
    """Return the number of a class in models, as a string."""
    if label not in known:
        raise BadRowError(f"the class is {shown(label)}, one of {', '.join(known)} is expected")
    return str(known.index(label))


def _named(label: str, known: tuple[str, ...]) -> str:
    _numbered(label, known)
    return label


CLASSES = {"sst2": 2, "imdb": 2, "agnews": 4, "cola": 2}
"""Number of classes of each data set."""

DIALECTS = {
    # Socher et al. 2013, as GLUE has it.
    "sst2": _Dialect(
        "\t", False, 2, ("sentence", "label"), lambda f: (f[0], _numbered(f[1], ("0", "1")))
    ),
    # Maas et al. 2011, as one table of reviews.
    "imdb": _Dialect(
        ",", True, 2, ("review", "sentiment"),
        lambda f: (f[0].replace("<br />", "\n"), _named(f[1], ("negative", "positive"))),
    ),
    # Zhang et al. 2015.
    "agnews": _Dialect(
        ",", True, 3, ("Class Index", "Title", "Description"),
        lambda f: (f"{f[1]}. {f[2]}", _numbered(f[0], ("1", "2", "3", "4"))),
    ),
    # Warstadt et al. 2019.
    "cola": _Dialect("\t", False, 4, (), lambda f: (f[3], _numbered(f[1], ("0", "1")))),
}  # fmt: skip


class BadRows:
    """Unusable rows: up to ``borne`` are skipped with a message, more are an error."""

    SHOWN = 20
    """Most faults that are listed."""

    def __init__(self, borne: int) -> None:
        self._borne, self._count = borne, 0
        self._lines: dict[tuple[Path, str], list[int]] = {}
        self._reads_on = True

    @property
    def too_many(self) -> bool:
        """Whether there are more than ``borne``."""
        return self._count > self._borne

    def note(self, path: Path, line: int, why: str) -> bool:
        """Add a row and return whether to read on."""
        self._count += 1
        self._lines.setdefault((path, why), []).append(line)
        self._reads_on = self._count < self._borne + self.SHOWN
        return self._reads_on

    def refuse(self) -> None:
        """Refuse too many bad rows; rows with the same fault are listed together.

        Raises:
            SpecError: there are more than ``borne`` (G2-309).
        """
        if not self.too_many:
            return
        faults = self._faults()
        cure = f"data.max_bad_rows = {self._count} passes over as many"
        if not self._reads_on:
            cure = "there may be more: no row after these was read"
        faults[-1] = attrs.evolve(faults[-1], message=f"{faults[-1].message}; {cure}")
        raise SpecError(faults)

    def words(self) -> tuple[str, ...]:
        """Return a message per fault, with all rows that have it."""
        return tuple(f"{fault.origin}: {fault.message}" for fault in self._faults())

    def _faults(self) -> list[Fault]:
        return [
            Fault("G2-309", f"{path}:{lines[0]}", "", f"{why}{_others(lines[1:])}")
            for (path, why), lines in self._lines.items()
        ]


def _others(lines: Sequence[int]) -> str:
    """Return a suffix with the other lines that have the same fault."""
    return f"; lines {some(map(str, lines))} likewise" if lines else ""


def rows(
    lines: Iterable[str], form: DataFormat, number: Callable[[str], object] | None
) -> Iterator[Item]:
    """Yield the rows of a file, good and bad.

    ``number`` raises BadRowError for an unknown class; it is None where classes are not read.
    """
    for item in _rows(lines, form, labels=number is not None):
        if number and isinstance(item, TableRow):
            try:
                number(item.label)
            except BadRowError as error:
                yield item.line, str(error)
                continue
        yield item


def _rows(lines: Iterable[str], form: DataFormat, *, labels: bool) -> Iterator[Item]:
    if form.format == "jsonl":
        return _json_rows(lines, form, labels=labels)
    if form.format in DIALECTS:
        return _dialect_rows(lines, DIALECTS[form.format])
    return _table_rows(lines, form, labels=labels)


def _json_rows(lines: Iterable[str], form: DataFormat, *, labels: bool) -> Iterator[Item]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _tried(number, _json_row, line, form, labels)


def _json_row(line: str, form: DataFormat, labels: bool) -> tuple[str, str]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"it is not JSON: {error}; jsonl has an object in each line") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise BadRowError(f"an object is expected, found {kind}: jsonl has one in each line")
    text = _value(content, form.text, "data.text_column")
    if not isinstance(text, str):
        raise BadRowError(f"{form.text!r} is {shown(text)}, a text is expected")
    label = _value(content, form.label, "data.label_column") if labels else ""
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        raise BadRowError(f"{form.label!r} is {shown(label)}, a name or a number is expected")
    return text, str(label)


def _value(content: dict[str, object], column: Column, key: str) -> object:
    if str(column) not in content:
        known = header.listed(content) or "nothing"
        raise BadRowError(f"it has no {column!r}, but {known}: {key} names the column")
    return content[str(column)]


def _table_rows(lines: Iterable[str], form: DataFormat, *, labels: bool) -> Iterator[Item]:
    if form.header:
        lines = _without_json(lines)
    separator = header.SEPARATORS[form.format]
    reader = _reader(lines, separator, quoted=form.quotes, advice=PLAIN)
    wanted = {"data.text_column": form.text}
    if labels:
        wanted["data.label_column"] = form.label
    places: list[int] | None = None
    for number, fields in reader:
        if isinstance(fields, str):
            yield number, fields
            continue
        if places is None:
            places = header.places(wanted, fields, form)
            if form.header:
                continue
        item = _tried(number, _picked, fields, places)
        if form.format == "tsv" and isinstance(item, TableRow) and (count := _enclosed(fields)):
            item = attrs.evolve(item, enclosed=count)
        yield item


def _without_json(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines, and refuse the first that is not empty where it is JSON."""
    lines = iter(lines)
    for line in lines:
        if line.strip():
            header.refuse_json(line)
            yield line
            break
        yield line
    yield from lines


def _enclosed(fields: list[str]) -> int:
    """Return the most lines of a value that also has tabs; 0 for none."""
    return max(
        (field.count("\n") + 1 for field in fields if "\n" in field and "\t" in field), default=0
    )


def _picked(fields: list[str], places: list[int]) -> tuple[str, str]:
    if len(fields) <= max(places):
        raise BadRowError(f"it has {counted(len(fields), 'column')}, {max(places) + 1} are needed")
    values = [fields[place] for place in places]
    return values[0], values[1] if len(values) > 1 else ""


def _dialect_rows(lines: Iterable[str], dialect: _Dialect) -> Iterator[Item]:
    def row(fields: list[str]) -> tuple[str, str]:
        if len(fields) != dialect.fields:
            raise BadRowError(
                f"it has {counted(len(fields), 'column')}, {dialect.fields} are expected"
            )
        return dialect.row(fields)

    first = True
    for number, fields in _reader(lines, dialect.delimiter, quoted=dialect.quoted):
        if isinstance(fields, str):
            yield number, fields
        elif not (first and tuple(fields) == dialect.header):
            yield _tried(number, row, fields)
        first = False


def _reader(
    lines: Iterable[str], delimiter: str, *, quoted: bool, advice: str = ""
) -> Iterator[tuple[int, list[str] | str]]:
    """Yield line number and fields of each row that is not empty, or its fault.

    Raises:
        ValueError: a quote encloses several rows; the message ends with ``advice``.
    """
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lost = reader.line_num - line + 1
            if "unexpected end" in str(error):
                message = f"line {line}: a quote is never closed, and {lost} lines are in it"
                raise ValueError(f"{message}{advice}") from None
            if lost > 1:
                message = f"line {line}: a quote opens here, and text follows its end"
                raise ValueError(f"{message}, {lost} lines on{advice}") from None
            yield line, str(error)
            continue
        if fields:
            yield line, fields


def _tried(line: int, row: Callable[P, tuple[str, str]], *of: P.args, **more: P.kwargs) -> Item:
    """Return a row, or line and message if it is unusable."""
    try:
        text, label = row(*of, **more)
        text.encode()
    except BadRowError as error:
        return line, str(error)
    except UnicodeEncodeError:
        return line, "half of a surrogate pair is in it, which is not Unicode"
    return TableRow(line, text, label) if text.strip() else (line, "the text is empty")
