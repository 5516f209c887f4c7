"""How a file holds its texts: the format, its columns, and how many bad rows are borne."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import attrs

from gpt2dsl.errors import InputError
from gpt2dsl.parts.data import Data

Column = str | int


@attrs.frozen(kw_only=True)
class Form:
    """The form of data.

    Attributes:
        format: text, jsonl, csv, tsv, wikitext, sst2, imdb, agnews or cola.
        text: the column of the text: its name, or its number from 0.
        label: the column of the class, for classifiers.
        header: whether the first row of csv and tsv names the columns.
        quotes: whether quotes of csv and tsv enclose a value.
        max_bad_rows: rows that can't be used and are passed over, with a word; more are an error.
    """

    format: str = "text"
    text: Column = "text"
    label: Column = "label"
    header: bool = True
    quotes: bool = True
    max_bad_rows: int = 0

    @classmethod
    def of(cls, data: Data) -> Form:
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
        """What decides the texts that a file gives; "" for plain text."""
        if self.format == "text":
            return ""
        named: tuple[Column, ...] = ()
        if self.format in TABLES:
            named = (self.text, self.label, self.header)
            if not self.quotes:  # it came later: the others stay what they were
                named += ("quotes are text",)
        return repr((self.format, named, self.max_bad_rows))


TABLES = ("jsonl", "csv", "tsv")
"""Formats whose columns a user names."""

RECORDS = re.compile(r".+\.mindrecord\d*")
"""Names of MindRecord's files of rows; their indexes end in .db."""

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_NO_TEXT = (
    ".json", ".parquet", ".arrow", ".gz", ".zst", ".xz", ".bz2", ".zip", ".tar", ".pkl", ".npy",
    ".bin",
)  # fmt: skip


def refuse_other_than_text(
    name: str, files: Iterable[Path], said: str = 'data.format = "{}"'
) -> None:
    """Refuse files to be read as text that are named as those of another format.

    Args:
        name: of the data.
        files: of it.
        said: how a format is said.

    Raises:
        InputError: one of them is.
    """
    for path in files:
        suffix = path.suffix.lower()
        named = "mindrecord" if RECORDS.fullmatch(path.name) else _SUFFIXES.get(suffix, "")
        if not named and suffix not in _NO_TEXT:
            continue
        cure = f"say {said.format(named)}" if named else f"no format here reads {suffix} files"
        as_text = f"{said.format('text')} reads it as it is, with all its marks"
        message = f"{path.name} is no plain text by its name: {cure}; {as_text}"
        raise InputError("G2-310", name, message)
