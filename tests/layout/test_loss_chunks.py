from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.layout.loss_chunks import LEAST, MOST, chunk_count


@given(st.integers(1, 20_000), st.sampled_from([1, 2, 4, 8]))
def test_portions_are_equal_on_every_rank_and_neither_too_large_nor_too_small(
    tokens: int, ranks: int
) -> None:
    count = chunk_count(tokens, ranks)
    if count > 1:
        assert tokens % (count * ranks) == 0
        assert LEAST <= tokens // count <= MOST


def test_a_batch_of_usual_size_is_taken_in_as_few_portions_as_hold_512_tokens() -> None:
    assert [chunk_count(rows * 1024) for rows in (1, 2, 3)] == [2, 4, 6]
    assert [chunk_count(512), chunk_count(513), chunk_count(520), chunk_count(1042)] == [1, 3, 2, 1]
