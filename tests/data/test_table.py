from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.data.form import DataFormat
from gpt2dsl.data.source import Source
from gpt2dsl.data.table import TableRow
from gpt2dsl.errors import InputError, SpecError


def source(tmp_path: Path, content: str | bytes, **form: Any) -> Source:
    path = tmp_path / "data"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Source.open(str(path), DataFormat(**form))


def rows(tmp_path: Path, content: str | bytes, **form: Any) -> list[tuple[str, str]]:
    found = source(tmp_path, content, **form).rows(number=str)
    return [(row.text, row.label) for row in found]


def faults(tmp_path: Path, content: str | bytes, **form: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        rows(tmp_path, content, **form)
    assert {fault.code for fault in caught.value.faults} == {"G2-309"}
    return [f"{f.origin.rpartition(':')[2]} {f.message}" for f in caught.value.faults]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.sampled_from([",", "\t"]))
def test_what_pythons_csv_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], delimiter: str
) -> None:
    cells = [cell for cell in cells if cell[0].strip()]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([("text", "label"), *cells])
    form = "csv" if delimiter == "," else "tsv"
    found = rows(tmp_path_factory.mktemp("a"), file.getvalue(), format=form)
    assert found == cells


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.sampled_from([",", "\t"]))
def test_without_quotes_every_line_is_a_row(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], delimiter: str
) -> None:
    plain = [
        tuple(re.sub(r"[\r\n,\t]", "", cell) for cell in row) for row in [("text", "label"), *cells]
    ]
    plain = [row for row in plain if row[0].strip()]
    content = "".join(f"{text}{delimiter}{label}\n" for text, label in plain)
    form = {"format": "csv" if delimiter == "," else "tsv", "quotes": False}
    assert rows(tmp_path_factory.mktemp("a"), content, **form) == plain[1:]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('text\tlabel\n"Oh\t1\nno\t0\n', 2),  # never closed
        ('text\tlabel\nyes\t1\n"Oh\t1\nno\t0\n"well" he said\t1\n', 3),  # text after the end
    ],
)
def test_a_quote_that_takes_rows_is_refused_with_its_line_however_many_are_borne(
    tmp_path: Path, content: str, line: int
) -> None:
    with pytest.raises(InputError, match=rf"line {line}: a quote .*data.quotes = false"):
        rows(tmp_path, content, format="tsv", max_bad_rows=99)
    assert ("no", "0") in rows(tmp_path, content, format="tsv", quotes=False)


def test_quotes_of_a_tsv_that_enclose_lines_with_tabs_are_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = 'text\tlabel\n"Oh\t1\n5\'10"\t0\n'
    found = source(tmp_path, content, format="tsv")
    for _ in range(2):
        assert [row.text for row in found.rows(number=str)] == ["Oh\t1\n5'10"]
    (told,) = capsys.readouterr().err.splitlines()
    assert "data:2: quotes enclose 2 lines and their tabs as one value; data.quotes" in told
    plain = rows(tmp_path, content, format="tsv", quotes=False)
    assert plain == [('"Oh', "1"), ("5'10\"", "0")]
    assert not capsys.readouterr().err


@given(st.lists(st.tuples(CELLS, st.integers(0, 9)), min_size=1, max_size=6))
def test_what_json_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, int]]
) -> None:
    cells = [cell for cell in cells if cell[0].strip()]
    lines = [json.dumps({"text": text, "label": label, "more": [1]}) for text, label in cells]
    content = "\n".join([*lines, ""])
    if not content:
        return
    found = rows(tmp_path_factory.mktemp("a"), content, format="jsonl")
    assert found == [(text, str(label)) for text, label in cells]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_ends_of_lines_and_byte_order_marks_do_not_matter(
    tmp_path: Path, end: str, mark: bytes
) -> None:
    content = mark + end.join(["text,label", '"a, ""b""",1', "c,2"]).encode()
    assert rows(tmp_path, content, format="csv") == [('a, "b"', "1"), ("c", "2")]
    content = mark + end.join(["0\tno", "1\tyes"]).encode()
    form: dict[str, Any] = {"text": 1, "label": 0, "header": False}
    assert rows(tmp_path, content, format="tsv", **form) == [("no", "0"), ("yes", "1")]


def test_a_row_may_end_early_after_the_columns_that_are_read(tmp_path: Path) -> None:
    content = "text,label,by\na,1,x\nb,0\n"
    assert rows(tmp_path, content, format="csv") == [("a", "1"), ("b", "0")]


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a"}, {"text": "b"}]',
        '[\n{"text": "a"},\n{"text": "b"}\n]\n',
        '\n[ {\n"text": "a"\n}]',
    ],
)
def test_a_file_that_is_one_array_is_told_to_have_an_object_in_each_line(
    tmp_path: Path, content: str
) -> None:
    message = r"it is one JSON array: write each of its objects in a line of its own \[G2-304\]$"
    with pytest.raises(InputError, match=message):
        rows(tmp_path, content, format="jsonl")


def test_newlines_inside_quotes_stay_and_lines_are_counted_right(tmp_path: Path) -> None:
    content = 'text,label\n"two\nlines",1\nonly one column\n'
    cure = "; data.max_bad_rows = 1 passes over as many"
    assert faults(tmp_path, content, format="csv") == [f"4 it has 1 column, 2 are needed{cure}"]
    assert rows(tmp_path, content, format="csv", max_bad_rows=1) == [("two\nlines", "1")]


@pytest.mark.parametrize(
    ("content", "form", "said"),
    [
        (
            "[1]\n",
            {"format": "jsonl"},
            "1 an object is expected, found list: jsonl has one in each line",
        ),
        ("\n{\n", {"format": "jsonl"}, "2 it is not JSON: Expecting property name"),
        ('{"a": 1}\n', {"format": "jsonl"}, "1 it has no 'text', but 'a'"),
        (
            '{"a": 1}\n',
            {"format": "jsonl", "text": 0},
            "1 it has no 0, but 'a': data.text_column names the column by its name in jsonl, not "
            "by a number; data.max_bad_rows",
        ),
        ('{"text": 1}\n', {"format": "jsonl"}, "1 'text' is 1, a text is expected"),
        (
            f'{{"text": {[1] * 5000}}}\n',
            {"format": "jsonl"},
            f"1 'text' is [{'1, ' * 18}1,..., a text is expected",
        ),
        ('{"text": "a", "label": null}\n', {"format": "jsonl"}, "1 'label' is None, a name or"),
        ('{"text": "\\ud83d", "label": 1}\n', {"format": "jsonl"}, "1 half of a surrogate pair"),
        ('{"text": " ", "label": 1}\n', {"format": "jsonl"}, "1 the text is empty"),
        ('text,label\n"a"b,1\n', {"format": "csv"}, "2 ',' expected after '\"'"),
        (
            "label,text\n1,a film, which ran, was good\n",
            {"format": "csv"},
            "2 it has 4 columns, the header has 2; a value with a comma in it stands in quotes",
        ),
        (
            "text,label\na film, which ran,1\n",
            {"format": "csv"},
            "2 it has 3 columns, the header has 2; a value with a comma in it stands in quotes",
        ),
        (
            "label\ttext\n1\ta\tb\n",
            {"format": "tsv", "quotes": False},
            "2 it has 3 columns, the header has 2; data",
        ),
        (
            "a,1\nb, c,1\n",
            {"format": "csv", "header": False, "text": 0, "label": 1},
            "2 it has 3 columns, the first row has 2",
        ),
        (
            "b, c,1\na,1\n",
            {"format": "csv", "header": False, "text": 0, "label": 1},
            "2 it has 2 columns, the first row has 3",
        ),
        ("sentence\tlabel\na\t2\n", {"format": "sst2"}, "2 the class is '2', one of 0, 1 is"),
        (
            '{"text": "a", "label": 1, "text": "b"}\n',
            {"format": "jsonl"},
            "1 it has 'text' twice",
        ),
        ("text,label\ra,1\rb,0\r", {"format": "csv"}, "1 a carriage return alone ends its lines"),
        ("a\tb\tc\n", {"format": "sst2"}, "1 it has 3 columns, 2 are expected"),
        ("review,sentiment\na,neutral\n", {"format": "imdb"}, "2 the class is 'neutral', one of"),
        ('"5","a","b"\n', {"format": "agnews"}, "1 the class is '5', one of 1, 2, 3, 4"),
        ("gj04\t1\ta\n", {"format": "cola"}, "1 it has 3 columns, 4 are expected"),
    ],
)
def test_a_bad_row_is_told_with_its_line(
    tmp_path: Path, content: str, form: dict[str, Any], said: str
) -> None:
    assert faults(tmp_path, content, **form)[0].startswith(said)


@pytest.mark.parametrize(
    ("content", "form", "said"),
    [
        ("a,label\nb,1\n", {"format": "csv"}, "there is no column 'text', but 'a', 'label'"),
        ("a,b\n", {"format": "csv", "header": False}, "the column 'text' must be a number"),
        ("a,b\n", {"format": "csv", "text": 2}, "there is no column 2: the first row has 2"),
        ("text,label,label\n", {"format": "csv"}, "the column 'label' is there 2 times"),
        (
            'text,label\nb,1\n"a,1\nc,0\nd,1\n',
            {"format": "csv", "max_bad_rows": 9},
            "line 3: a quote is never closed, and 3 lines are in it",
        ),
    ],
)
def test_a_column_that_is_not_there_is_told_once(
    tmp_path: Path, content: str, form: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        rows(tmp_path, content, **form)


def test_so_many_bad_rows_are_passed_over_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = '{"text": "a", "label": 1}\n{\n{"text": "b", "label": 1}\n[]\n'
    assert rows(tmp_path, content, format="jsonl", max_bad_rows=2) == [("a", "1"), ("b", "1")]
    said = capsys.readouterr().err
    assert said.count("passed over: ") == 2
    assert f"{tmp_path}/data:2" in said
    refused = faults(tmp_path, content, format="jsonl", max_bad_rows=1)
    assert len(refused) == 2
    assert refused[1].endswith("; data.max_bad_rows = 2 passes over as many")


def test_thousands_of_bad_rows_are_not_all_listed(tmp_path: Path) -> None:
    different = "".join(f'{{"text": {number}}}\n' for number in range(5000))
    (fault,) = faults(tmp_path, different, format="jsonl")
    assert fault.startswith(
        "1 'text' is 0, a text is expected; lines 2, 3, 4, and 16 more likewise; there may be more"
    )
    rows = "".join("class,text,label\n" for _ in range(30))
    assert len(faults(tmp_path, rows, format="sst2")) == 1


def test_rows_with_one_fault_are_told_together(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, '{"body": "a"}\n' * 5000, format="jsonl")
    assert fault == (
        "1 it has no 'text', but 'body': data.text_column names the column; "
        "lines 2, 3, 4, and 16 more likewise; there may be more: no row after these was read"
    )


TURNS = (
    "is a list of turns, a text is expected: write the turns of each chat as one text, as "
    "tokenizer.apply_chat_template(turns, tokenize=False) of transformers does"
)


@pytest.mark.parametrize(
    ("column", "before"),
    [
        ("messages", "1 'messages' "),
        ("text", "1 it has no 'text', but 'messages': 'messages' "),
    ],
)
def test_chats_are_told_once_with_the_cure(tmp_path: Path, column: str, before: str) -> None:
    chats = [
        {"messages": [{"role": "user", "content": f"question {i}"}, {"role": "assistant"}]}
        for i in range(16)
    ]
    content = "".join(json.dumps(chat) + "\n" for chat in chats)
    (fault,) = faults(tmp_path, content, format="jsonl", text=column)
    assert fault == (
        f"{before}{TURNS}; lines 2, 3, 4, and 12 more likewise; "
        "data.max_bad_rows = 16 passes over as many"
    )


def test_rows_with_one_kind_of_fault_are_told_together_whatever_their_values(
    tmp_path: Path,
) -> None:
    content = "sentence\tlabel\na\tgood\nb\tbad\nc\tgood\nd\n"
    assert faults(tmp_path, content, format="sst2") == [
        "2 the class is 'good', one of 0, 1 is expected; lines 3, 4 likewise ('bad')",
        "5 it has 1 column, 2 are expected; data.max_bad_rows = 4 passes over as many",
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('{"text": "a cat', "the row ends within a string"),
        ('{"text": "a ca\tt"}', "Invalid control character at column 15"),
        ('{"text" "a cat"}', "Expecting ':' delimiter at column 9"),
        ('{"text": "a \\cat"}', "Invalid \\escape at column 13"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_fault_of_json_is_told_by_its_column(
    tmp_path: Path, row: str, why: str, end: str
) -> None:
    content = f'{{"text": "a", "label": 1}}\n{row}\n{row}{end}'
    assert faults(tmp_path, content, format="jsonl") == [
        f"2 it is not JSON: {why}; jsonl has an object in each line; line 3 likewise; "
        "data.max_bad_rows = 2 passes over as many"
    ]


SETS = {
    "sst2": (
        "sentence\tlabel\nit 's \"good\t1\nbad , 'really\t0\n",
        [("it 's \"good", "1"), ("bad , 'really", "0")],
    ),
    "imdb": (
        'review,sentiment\n"One.<br /><br />Two, ""three"".",positive\nBad.,negative\n',
        [('One.\n\nTwo, "three".', "positive"), ("Bad.", "negative")],
    ),
    "agnews": (
        '"3","Oil, ""up""","A (Reuters) story, long"\n"1","World","News"\n',
        [('Oil, "up". A (Reuters) story, long', "2"), ("World. News", "0")],
    ),
    "cola": (
        "gj04\t1\t\tOur friends \"won't buy this.\nclc95\t0\t*\tThey drank the pub.\n",
        [("Our friends \"won't buy this.", "1"), ("They drank the pub.", "0")],
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_the_four_sets_in_their_original_forms(tmp_path: Path, name: str) -> None:
    content, expected = SETS[name]
    assert rows(tmp_path, content, format=name) == expected
    texts = list(source(tmp_path, content, format=name).documents())
    assert texts == [text for text, _ in expected]


@pytest.mark.parametrize("name", ["sst2", "imdb"])
def test_a_file_without_its_header_loses_no_row(tmp_path: Path, name: str) -> None:
    content, expected = SETS[name]
    assert rows(tmp_path, content.split("\n", 1)[1], format=name) == expected


def test_every_file_of_a_folder_has_its_own_header(tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"{i}.csv").write_text(f"label,text\n{i},text {i}\n")
    found = list(Source.open(str(tmp_path), DataFormat(format="csv")).rows())
    assert found == [TableRow(2, "text 0"), TableRow(2, "text 1")]


def test_the_digest_tells_forms_apart_but_not_what_a_form_does_not_use(tmp_path: Path) -> None:
    content = "text,label\na,1\n"
    digests = {
        source(tmp_path, content, **form).digest()
        for form in (
            {}, {"format": "csv"}, {"format": "csv", "text": "label"}, {"format": "jsonl"},
            {"format": "sst2"},
        )
    }  # fmt: skip
    assert len(digests) == 5
    plain = source(tmp_path, content, text="other")
    assert plain.digest() == source(tmp_path, content).digest()
