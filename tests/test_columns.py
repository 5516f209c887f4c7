"""Tables stay straight whatever characters are in them."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from gpt2dsl.cli import table
from gpt2dsl.columns import left, right, width
from gpt2dsl.engine.scores import ClassificationMetrics
from gpt2dsl.errors import Fault
from gpt2dsl.spec.report import report

WORDS = ("a", "数据", "テスト", "😀", "한글", "e\u0301", "ﬀ")


def column(line: str, word: str) -> int:
    """Return the column of a terminal at which a word begins."""
    return cell_len(line[: line.index(word)])


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert [width(word) for word in WORDS] == [1, 4, 6, 2, 4, 1, 1]
    for word in WORDS:
        assert cell_len(left(word, 8)) == cell_len(right(word, 8)) == 8
    assert left("longer", 3) == right("longer", 3) == "longer"


def test_tables_of_commands_faults_and_classes_are_straight(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table.echo([(word, "7", "|") for word in WORDS], numbers={1})
    printed = capsys.readouterr().out.splitlines()
    faults = report([Fault("G2-101", f"{word}.toml:1", word, "|") for word in WORDS])
    confusion = tuple(tuple(int(i == j) for j in range(len(WORDS))) for i in range(len(WORDS)))
    scores = str(ClassificationMetrics(names=WORDS, confusion=confusion, loss=0.5))
    for lines, mark in (
        (printed, "|"),
        (faults.splitlines()[:-1], "|"),
        (scores.splitlines()[3:], "1.0"),
    ):
        assert len(lines) == len(WORDS)
        assert len({column(line, mark) for line in lines}) == 1, lines
