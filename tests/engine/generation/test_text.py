from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.data import vocabulary
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.text import Pieces

GPT2 = Tokenizer.load("gpt2")


def pieces(ids: list[int], held: list[str] | None = None) -> list[str]:
    one = Pieces(GPT2, held or [])
    return [*(one.add([i]) for i in ids), one.rest()]


@pytest.mark.parametrize(
    "text", ["今天天气很好。", "🙂👩‍👩‍👧 ok", "naïve — “quoted”", "plain text"]
)
def test_pieces_are_whole_characters_and_join_to_the_text(text: str) -> None:
    found = pieces(GPT2.encode(text))
    assert "".join(found) == text
    assert "\ufffd" not in "".join(found)


@given(st.lists(st.integers(0, 50256), max_size=30))
def test_pieces_of_any_tokens_join_to_what_the_tokenizer_decodes(ids: list[int]) -> None:
    assert "".join(pieces(ids)) == GPT2.decode(ids)


@given(st.text(alphabet="abc", max_size=12), st.lists(st.text("abc", min_size=1), max_size=3))
def test_text_is_cut_before_the_held_text_that_is_whole_first(text: str, held: list[str]) -> None:
    ids = [GPT2.encode(character)[0] for character in text]
    starts = (text[:size] for size in range(len(text) + 1))
    ended = next((start for start in starts if any(one in start for one in held)), "")
    places = [ended.find(one) for one in held if one in ended]
    assert "".join(pieces(ids, held)) == text[: min(places, default=len(text))]


def test_what_may_begin_a_held_text_waits() -> None:
    one = Pieces(GPT2, ["stop"])
    assert one.add(GPT2.encode("a st")) == "a "
    assert one.add(GPT2.encode("and")) == "stand"
    assert one.rest() == ""


def test_a_token_of_other_characters_is_its_own_text() -> None:
    assert vocabulary.token_bytes("Ġa") == b" a"
    assert vocabulary.token_bytes("a b") == b"a b"
    assert vocabulary.token_bytes("今") == "今".encode()
