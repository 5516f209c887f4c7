"""Readers for rows of text and class: jsonl, csv, tsv, and four data sets as published."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator

import attrs
from typing_extensions import ParamSpec

from gpt2dsl.data import header
from gpt2dsl.data.bad_rows import BadRow, BadRowError
from gpt2dsl.data.form import Column, DataFormat
from gpt2dsl.errors import counted
from gpt2dsl.schema.fate import shown

# Reviews may exceed the 128 KB field limit of Python's reader.
csv.field_size_limit(2**31 - 1 if sys.maxsize > 2**31 else sys.maxsize)


P = ParamSpec("P")


TURNS = (
    "a list of turns, a text is expected: write the turns of each chat as one text, as "
    "tokenizer.apply_chat_template(turns, tokenize=False) of transformers does"
)
"""End of a message on a column that contains chats; it begins with the column."""

_ARRAY = re.compile(r"\s*\[\s*\{")
_OPENED = re.compile(r"\s*\[\s*\{?\s*$")
"""Matches the first line of an array of objects that continues on the next line."""

PLAIN = "; data.quotes = false reads quotes as plain text"


@attrs.frozen
class TableRow:
    """A row of a table.

    Attributes:
        line: number of the row's first line.
        label: class; "" if classes are not read.
        enclosed: number of lines with tabs that quotes in a tsv enclose, and that may be rows.
    """

    line: int
    text: str
    label: str = ""
    enclosed: int = attrs.field(default=0, eq=False)


Item = TableRow | BadRow


@attrs.frozen
class _Dialect:
    """Format in which a data set is published; ``row`` converts columns to text and class."""

    delimiter: str
    quoted: bool
    fields: int
    header: tuple[str, ...]
    row: Callable[[list[str]], tuple[str, str]]


def _numbered(label: str, known: tuple[str, ...]) -> str:
    """Return the position of a class among the known ones, as a string."""
    if label not in known:
        raise unknown_class(label, known)
    return str(known.index(label))


def unknown_class(label: str, known: Iterable[str]) -> BadRowError:
    """Return the error of a row with an unknown class."""
    message = f"the class is {shown(label)}, one of {', '.join(known)} is expected"
    return BadRowError(message, "class", shown(label))


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

FILE_FORMATS = {
    name: "csv" if dialect.delimiter == "," else "tsv" for name, dialect in DIALECTS.items()
}
"""Data set → format of its files."""


def rows(
    lines: Iterable[str], form: DataFormat, number: Callable[[str], object] | None
) -> Iterator[Item]:
    """Yield the rows of a file, both usable and unusable.

    ``number`` raises BadRowError for an unknown class; None ignores classes.
    """
    for item in _rows(lines, form, labels=number is not None):
        if number and isinstance(item, TableRow):
            try:
                number(item.label)
            except BadRowError as error:
                yield _bad(item.line, error)
                continue
        yield item


def _rows(lines: Iterable[str], form: DataFormat, *, labels: bool) -> Iterator[Item]:
    if form.format == "jsonl":
        return _json_rows(lines, form, labels=labels)
    if form.format in DIALECTS:
        return _dialect_rows(lines, DIALECTS[form.format])
    return _table_rows(lines, form, labels=labels)


def _json_rows(lines: Iterable[str], form: DataFormat, *, labels: bool) -> Iterator[Item]:
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first = list(itertools.islice(numbered, 2))
    # In a file of several lines, a list may also be a chat, which has its own message.
    if first and (_ARRAY if len(first) == 1 else _OPENED).match(first[0][1]):
        message = "it is one JSON array: write each of its objects in a line of its own"
        raise ValueError(message)
    for number, line in itertools.chain(first, numbered):
        yield _tried(number, _json_row, line, form, labels)


def _json_row(line: str, form: DataFormat, labels: bool) -> tuple[str, str]:
    try:
        content = json.loads(line, object_pairs_hook=_object)
    except BadRowError:
        raise
    except (ValueError, RecursionError) as error:
        why, kind = not_json(error)
        message = f"it is not JSON: {why}; jsonl has an object in each line"
        raise BadRowError(message, kind) from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise BadRowError(f"an object is expected, found {kind}: jsonl has one in each line")
    text = _value(content, form.text, "data.text_column")
    if _are_turns(text):
        raise BadRowError(f"{form.text!r} is {TURNS}")
    if not isinstance(text, str):
        message = f"{form.text!r} is {shown(text)}, a text is expected"
        raise BadRowError(message, f"text {type(text)}")
    label = _value(content, form.label, "data.label_column") if labels else ""
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        message = f"{form.label!r} is {shown(label)}, a name or a number is expected"
        raise BadRowError(message, f"label {type(label)}")
    return text, str(label)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON; ``json`` itself would keep the last of two equal keys."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key in content if [name for name, _ in pairs].count(key) > 1)
        raise BadRowError(f"it has {twice!r} twice", "key twice")
    return content


def not_json(error: Exception) -> tuple[str, str]:
    """Return the reason why a row is not JSON, with and without the column number."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error), type(error).__name__
    is_cut = error.msg.startswith("Unterminated string")
    if is_cut or (error.doc[error.pos :].startswith(("\r", "\n")) and "control" in error.msg):
        return ("the row ends within a string",) * 2
    message = error.msg.removesuffix(" at")
    return f"{message} at column {error.colno}", message


def _value(content: dict[str, object], column: Column, key: str) -> object:
    if str(column) in content:
        return content[str(column)]
    known = header.listed(content) or "nothing"
    chats = [name for name, value in content.items() if _are_turns(value)]
    if chats and key == "data.text_column":
        raise BadRowError(f"it has no {column!r}, but {known}: {chats[0]!r} is {TURNS}", "chat")
    cure = "by its name in jsonl, not by a number" if isinstance(column, int) else ""
    message = f"it has no {column!r}, but {known}: {key} names the column {cure}".rstrip()
    raise BadRowError(message, f"no {key}")


def _are_turns(value: object) -> bool:
    """Return whether a value is a chat: a list of objects, with keys such as role and content."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def _table_rows(lines: Iterable[str], form: DataFormat, *, labels: bool) -> Iterator[Item]:
    if form.header:
        lines = _without_json(lines)
    separator = header.SEPARATORS[form.format]
    reader = _reader(lines, separator, quoted=form.quotes, advice=PLAIN)
    wanted = {"data.text_column": form.text}
    if labels:
        wanted["data.label_column"] = form.label
    places: list[int] = []
    width = 0
    for number, fields in reader:
        if isinstance(fields, str):
            yield BadRow(number, fields, fields)
            continue
        if not width:
            places, width = header.places(wanted, fields, form), len(fields)
            if form.header:
                continue
        item = _tried(number, _picked, fields, places, width, form)
        if form.format == "tsv" and isinstance(item, TableRow) and (count := _enclosed(fields)):
            item = attrs.evolve(item, enclosed=count)
        yield item


def _without_json(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines; refuse the first non-empty one if it is JSON."""
    lines = iter(lines)
    for line in lines:
        if line.strip():
            header.refuse_json(line)
            yield line
            break
        yield line
    yield from lines


def _enclosed(fields: list[str]) -> int:
    """Return the maximum number of lines of a value that also contains tabs; 0 for none."""
    return max(
        (field.count("\n") + 1 for field in fields if "\n" in field and "\t" in field), default=0
    )


def _picked(fields: list[str], places: list[int], width: int, form: DataFormat) -> tuple[str, str]:
    """Return text and class of a row.

    If there is a header, a row may have fewer columns, as spreadsheets write it. A row with more
    columns has an unquoted separator in a value, so its columns can't be told apart.
    """
    count = counted(len(fields), "column")
    if len(fields) > width or (len(fields) < width and not form.header):
        name = "comma" if form.format == "csv" else "tab"
        first = "the header" if form.header else "the first row"
        cure = f"a value with a {name} in it stands in quotes" if form.quotes else ""
        message = f"it has {count}, {first} has {width}"
        raise BadRowError("; ".join(filter(None, (message, cure))), "columns")
    if len(fields) <= max(places):
        raise BadRowError(f"it has {count}, {max(places) + 1} are needed", "columns")
    values = [fields[place] for place in places]
    return values[0], values[1] if len(values) > 1 else ""


def _dialect_rows(lines: Iterable[str], dialect: _Dialect) -> Iterator[Item]:
    def row(fields: list[str]) -> tuple[str, str]:
        if len(fields) != dialect.fields:
            message = f"it has {counted(len(fields), 'column')}, {dialect.fields} are expected"
            raise BadRowError(message, "columns")
        return dialect.row(fields)

    first = True
    for number, fields in _reader(lines, dialect.delimiter, quoted=dialect.quoted):
        if isinstance(fields, str):
            yield BadRow(number, fields, fields)
        elif not (first and tuple(fields) == dialect.header):
            yield _tried(number, row, fields)
        first = False


def _reader(
    lines: Iterable[str], delimiter: str, *, quoted: bool, advice: str = ""
) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the line number of each non-empty row, with its fields or the message of its fault.

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
            is_old = "new-line character" in str(error)
            yield (
                line,
                "a carriage return alone ends its lines: end them by \\n" if is_old else str(error),
            )
            continue
        if fields:
            yield line, fields


def _tried(line: int, row: Callable[P, tuple[str, str]], *of: P.args, **more: P.kwargs) -> Item:
    """Return the row that a function makes, or a BadRow if it fails or the text is unusable."""
    try:
        text, label = row(*of, **more)
        text.encode()
    except BadRowError as error:
        return _bad(line, error)
    except UnicodeEncodeError:
        return _bad(line, BadRowError("half of a surrogate pair is in it, which is not Unicode"))
    return (
        TableRow(line, text, label)
        if text.strip()
        else _bad(line, BadRowError("the text is empty"))
    )


def _bad(line: int, error: BadRowError) -> BadRow:
    return BadRow(line, str(error), error.kind, error.value)
