"""Format and tokenizer of data."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import choice, column, flag, integer, text

FORMATS = (
    "text", "jsonl", "tsv", "csv", "mindrecord", "wikitext", "sst2", "imdb", "agnews", "cola",
)  # fmt: skip


@part
class Data(Part):
    """How data is read, and which tokenizer turns it into tokens."""

    table: ClassVar[str] = "data"
    added: ClassVar[frozenset[str]] = frozenset({"quotes"})
    deferred: ClassVar[frozenset[str]] = frozenset({"format"})

    format: str = choice(FORMATS, "format of the task's data", default="text")
    tokenizer: str = text(
        "auto: that of the weights, else gpt2; gpt2: the published vocabulary; a folder with "
        "vocab.json + merges.txt or tokenizer.json; "
        "train: a vocabulary trained on the training text",
        empty=False,
        default="auto",
    )
    vocab: int = integer("entries of a trained vocabulary", low=257, high=1_000_000, default=2048)
    text_column: str | int = column(
        "column of the text, in jsonl, csv and tsv",
        default="text",
        several="a row is one text: join its columns into one in the file first",
    )
    label_column: str | int = column("column of the class, in jsonl, csv and tsv", default="label")
    header: bool = flag("whether the first row of csv and tsv names the columns", default=True)
    quotes: bool = flag(
        "whether quotes in csv and tsv enclose values, which may have several lines, or are "
        "plain text",
        default=True,
    )
    max_bad_rows: int = integer(
        "maximum number of unusable rows, which are skipped; more are an error", default=0
    )
