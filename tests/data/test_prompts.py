from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl import InputError
from gpt2dsl.data import prompts


def test_a_text_file_has_a_prompt_a_line_whatever_else_is_in_the_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffone\r\n\ntwo\x0c\u2028still two\n".encode())
    assert prompts.read(str(file), "prompt") == ("one", "two\x0c\u2028still two")


def test_jsonl_has_strings_or_tables(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('"one"\n{"prompt": "two", "id": 3}\n')
    assert prompts.read(str(file), "prompt") == ("one", "two")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "there is no prompt in it"),
        ("a.txt", b"fine\nbad\xff", "not UTF-8 at byte 8, line 2: 0xff"),
        ("a.jsonl", b'"one"\n\n{', r"a.jsonl:3: not JSON"),
        ("a.jsonl", b'{"text": "one"}', "expected a string, or a table with prompt"),
    ],
)
def test_files_that_can_not_be_used_are_one_clear_line(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        prompts.read(str(tmp_path / name), "prompt")
    with pytest.raises(InputError, match="there is no such file"):
        prompts.read(str(tmp_path / "absent"), "prompt")


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.json", "a.parquet", "a.mindrecord0", "a.gz"])
def test_a_table_is_not_taken_for_lines_of_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("prompt,id\none,1\n")
    with pytest.raises(InputError, match=r"expected one prompt a line, or a .jsonl") as told:
        prompts.read(str(tmp_path / name), "prompt")
    assert told.value.faults[0].code == "G2-310"


def test_ndjson_is_jsonl(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"text": "one"}\n')
    assert prompts.read(str(tmp_path / "a.ndjson"), "text") == ("one",)
