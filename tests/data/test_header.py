from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl.data.form import DataFormat
from gpt2dsl.data.source import Source
from gpt2dsl.errors import InputError

ANEW = "write it anew with commas, or with tabs as a tsv"
NUMBERS = "data.header = false, and data.text_column and data.label_column as numbers, from 0"
LINES = 'write each of its objects in a line of its own, as a .jsonl, and say data.format = "jsonl"'


def refusal(tmp_path: Path, content: str, **form: Any) -> str:
    path = tmp_path / "data.csv"
    path.write_text(content)
    named = {"format": "csv", "text": "review", "label": "verdict", **form}
    with pytest.raises(InputError) as error:
        list(Source.open(str(path), DataFormat(**named)).rows(number=str))
    (fault,) = error.value.faults
    assert fault.code == "G2-304"
    return fault.message


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        (
            "review;verdict\ndull, and long;bad\n", {},
            f"there is no column 'review', but 'review;verdict': its separator is ';'; {ANEW}",
        ),
        (
            "id|review|verdict, if any|verdict\n", {},
            "there is no column 'review', but 'id|review|verdict', ' if any|verdict': its "
            f"separator is '|'; {ANEW}",
        ),
        (
            "a;b\n", {"text": 1, "label": 0},
            f"there is no column 1: the first row has 1; its separator is ';'; {ANEW}",
        ),
        (
            "review\tverdict\n", {},
            "there is no column 'review', but 'review\\tverdict': tabs separate its columns: "
            'data.format = "tsv"',
        ),
        (
            '"review","verdict"\n', {"format": "tsv", "quotes": False},
            "there is no column 'review', but '\"review\",\"verdict\"': commas separate its "
            'columns: data.format = "csv"',
        ),
        (
            '"dull and long, we saw it on monday",bad\n', {},
            "there is no column 'review', but 'dull and long, we saw it on monday', 'bad': this "
            f"seems to be no header: {NUMBERS}; else data.text_column names the column",
        ),
        (
            "A good film; a bad end\n", {},
            "there is no column 'review', but 'A good film; a bad end': this seems to be no "
            f"header: {NUMBERS}; else data.text_column names the column",
        ),
        (
            "text,label\n", {},
            "there is no column 'review', but 'text', 'label': data.text_column names the column; "
            f"if this is no header, {NUMBERS}",
        ),
    ],
)  # fmt: skip
def test_each_mistake_of_a_first_row_has_its_own_cure(
    tmp_path: Path, content: str, form: dict[str, Any], message: str
) -> None:
    assert refusal(tmp_path, content, **form) == message


@pytest.mark.parametrize("separators", [None, (",", ":")])
def test_json_that_is_read_as_a_csv_is_told_in_a_few_words(
    tmp_path: Path, separators: tuple[str, str] | None
) -> None:
    rows = [{"review": f"nice {i}", "verdict": "good"} for i in range(2000)]
    said = "its first line is JSON, no header: "
    content = json.dumps(rows, separators=separators)
    assert refusal(tmp_path, content) == f"{said}{LINES}"
    assert refusal(tmp_path, f"\n{json.dumps(rows, indent=1)}") == f"{said}{LINES}"
    assert refusal(tmp_path, json.dumps(rows[0], indent=1)) == f"{said}{LINES}"
    line = json.dumps(rows[0], separators=separators)
    assert refusal(tmp_path, f"{line}\n{line}\n") == f'{said}say data.format = "jsonl"'


def test_of_many_or_long_columns_the_first_are_listed(tmp_path: Path) -> None:
    content = ",".join(f"column{i}" * 50 for i in range(1000))
    message = refusal(tmp_path, content)
    assert "..., and 992 more: this seems to be no header" in message
    assert len(message) < 1000
