from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl import Generation
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.ending import Ending
from gpt2dsl.engine.generation.stops import Stops
from gpt2dsl.engine.generation.text import Pieces

GPT2 = Tokenizer.load("gpt2")
WORDS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=6)


@given(st.text("ab", max_size=12), WORDS, st.integers(1, 12))
def test_the_first_stop_that_ends_within_the_new_text_is_found(
    text: str, stops: list[str], new: int
) -> None:
    starts = [
        start
        for start in range(len(text))
        for stop in stops
        if text.startswith(stop, start) and start + len(stop) > len(text) - new
    ]
    assert Stops(stops).find(text, new) == min(starts, default=None)


@given(st.text("ab", max_size=6), WORDS)
def test_what_a_stop_begins_with_is_known(text: str, stops: list[str]) -> None:
    assert Stops(stops).begin_with(text) == any(stop.startswith(text) for stop in stops)


def test_an_empty_stop_stops_nothing() -> None:
    assert Stops([""]).find("abc", 3) is None
    assert Stops([b""]).longest == 0


def test_pieces_of_one_text_share_what_they_hold_back() -> None:
    stops = Stops(["the end", "theatre"])
    one, other = Pieces(GPT2, stops), Pieces(GPT2, stops)
    assert one.add(GPT2.encode("see the e")) == "see "
    assert other.add(GPT2.encode("see thea")) == "see "
    assert one.add(GPT2.encode("nding")) == ""
    assert other.rest() == "thea"


def test_long_and_many_stops_are_no_burden() -> None:
    """Five megabytes in one stop or in 10,000: quadratic matching would take hours."""
    ids = GPT2.encode("a b " * 500)
    for stops in (["a b " * 1_250_000], [f"{'a b ' * 120}{i:05}" for i in range(10_000)]):
        pieces = Pieces(GPT2, stops)
        shown = "".join(pieces.add([i]) for i in ids) + pieces.rest()
        assert shown == "a b " * 500
        generation = Generation(max_new_tokens=1000, stop_strings=stops)
        ending = Ending(generation, GPT2, 1, 1024, in_prompt=False)
        assert not any(ending.reason(ids[:end]) for end in range(2, 1001, 50))
