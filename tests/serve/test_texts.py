"""Where in a text its tokens begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.serve.texts import Offsets
from tests.vocabularies import vocabulary


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("bytes")
    vocabulary(folder)
    return Tokenizer.load(folder)


def offsets(tokenizer: Tokenizer, text: bytes) -> list[int]:
    """Those of a text whose tokens are bytes."""
    ids = {tokenizer.bytes_of([i]): i for i in range(256)}
    placing = Offsets(tokenizer)
    return [placing.add(ids[bytes([byte])]) for byte in text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"abc", [0, 1, 2]),
        ("a猫b".encode(), [0, 1, 1, 1, 2]),
        ("😀!".encode(), [0, 0, 0, 0, 1]),
        (b"\xe4a", [0, 1]),
        (b"\xe4\xbda", [0, 0, 1]),
        (b"\xe4\xe4\xbd\xa0", [0, 1, 1, 1]),
        (b"\xa0\xa0a", [0, 1, 2]),
        (b"\xf0\x9f\x98a", [0, 0, 0, 1]),
        (b"\xe0\x80a", [0, 1, 2]),
        (b"", []),
    ],
)
def test_tokens_of_one_character_begin_where_it_does_and_broken_ones_count(
    tokenizer: Tokenizer, text: bytes, expected: list[int]
) -> None:
    assert offsets(tokenizer, text) == expected


@given(text=st.binary(max_size=12))
def test_offsets_are_those_of_the_whole_text(tokenizer: Tokenizer, text: bytes) -> None:
    whole = text.decode("utf-8", "replace")
    found = offsets(tokenizer, text)
    assert found == sorted(found)
    starts = {0}
    for end in range(1, len(text) + 1):
        starts.add(len(text[:end].decode("utf-8", "replace")) - 1)
    assert set(found) <= starts
    assert set(found) == set(range(len(whole)))
