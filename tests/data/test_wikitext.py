from __future__ import annotations

from pathlib import Path

import pytest

from gpt2dsl.data.form import DataFormat
from gpt2dsl.data.source import Source
from gpt2dsl.data.wikitext import articles, cleaned

TEXT = """
 = Robert Boulter =

 Robert Boulter is an English film , television and theatre actor .
 He had a guest @-@ starring role in 1 @,@ 000 films .
 He was " good " ( very ) .

 = = Career = =

 = = = 2000 – 2005 = = =

 In 2000 he played .

 = N ° 4 =

 The last passage ; it stays\tas does this
"""


def test_headings_bound_articles_and_the_last_passage_stays() -> None:
    found = list(articles(TEXT.splitlines(keepends=True)))
    assert found == [
        "Robert Boulter is an English film, television and theatre actor. He had a guest-starring "
        'role in 1,000 films. He was "good" (very).\nIn 2000 he played.',
        "The last passage; it stays\tas does this",
    ]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("the dogs ' bone", "the dogs' bone"),
        ("a @-@ b @,@ c @.@ d", "a-b,c.d"),
        ("one , two : three ; four . five", "one, two: three; four. five"),
        ("five ! six ? seven", "five! six? seven"),
        ("( a ) [ b ] { c } \" d \"", '(a) [b] {c} "d"'),
        ("it 's", "it's"),
        ("5 ° north", "5°north"),
    ],
)  # fmt: skip
def test_the_spaces_of_wikitext_are_undone(raw: str, expected: str) -> None:
    assert cleaned(raw) == expected


def test_a_source_of_wikitext_gives_its_articles(tmp_path: Path) -> None:
    (tmp_path / "wiki.train.tokens").write_text(TEXT)
    source = Source.open(str(tmp_path / "wiki.train.tokens"), DataFormat(format="wikitext"))
    assert len(list(source.documents())) == 2
    assert [last for _, last in source.blocks()] == [True, True]
