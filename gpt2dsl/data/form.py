"""Form of data: its format, its columns, and how many bad rows are tolerated."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.parts.data import Data

Column = str | int


@attrs.frozen(kw_only=True)
class DataFormat:
    """The format of data and its columns, as ``[data]`` describes them.

    ``plain_quotes`` is the setting that reads quotes as text, for messages.
    """

    format: str = "text"
    text: Column = "text"
    label: Column = "label"
    header: bool = True
    quotes: bool = True
    max_bad_rows: int = 0
    plain_quotes: str = attrs.field(default="data.quotes = false", eq=False)

    @classmethod
    def of(cls, data: Data) -> DataFormat:
        """Return the form that a recipe describes."""
        return cls(
            format=data.format,
            text=data.text_column,
            label=data.label_column,
            header=data.header,
            quotes=data.quotes,
            max_bad_rows=data.max_bad_rows,
        )

    @property
    def identity(self) -> str:
        """Everything that decides the texts in a file; "" for plain text."""
        if self.format == "text":
            return ""
        named: tuple[Column, ...] = ()
        if self.format in TABLES:
            named = (self.text, self.label, self.header)
            if not self.quotes:  # added later: other identities stay the same
                named += ("quotes are text",)
        return repr((self.format, named, self.max_bad_rows))


TABLES = ("jsonl", "csv", "tsv")
"""Formats with columns named by the user."""

RECORDS = re.compile(r".+\.mindrecord\d*")
"""Names of MindRecord files; names of their indexes end in .db."""

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_NO_TEXT = (
    ".json", ".parquet", ".arrow", ".gz", ".zst", ".xz", ".bz2", ".zip", ".tar", ".pkl", ".npy",
    ".bin",
)  # fmt: skip


def other_format(path: Path) -> str:
    """Return the format that a file's name stands for, "" for plain text.

    A suffix that no format here reads is its own name.
    """
    suffix = path.suffix.lower()
    if RECORDS.fullmatch(path.name):
        return "mindrecord"
    return _SUFFIXES.get(suffix, suffix if suffix in _NO_TEXT else "")


def refuse_other_than_text(
    name: str, files: Iterable[Path], setting: str = 'data.format = "{}"'
) -> None:
    """Refuse to read files as text whose names have the suffix of another format (G2-310).

    ``setting`` is the template of the key that chooses a format, for the message.
    """
    paths = list(files)
    for path in paths:
        named = other_format(path)
        if not named:
            continue
        shown = path.name if path.name == Path(name).name else path
        is_read = named not in _NO_TEXT
        cure = f"say {setting.format(named)}" if is_read else f"no format here reads {named} files"
        as_text = f"{setting.format('text')} reads it as it is, with all its marks"
        if other := next((other for other in paths if other_format(other) != named), None):
            cure = (
                f"{other} is {other_format(other) or 'text'}, and one format is that of all files"
            )
            cure += ": name those of one"
        message = f"{shown} is no plain text by its name: {cure}; {as_text}"
        raise InputError("G2-310", name, message)
