from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.data.order import permutation, rows_of

ORDER = [0, 8, 9, 3, 7, 5, 1, 2, 6, 4]


@given(
    rows=st.integers(1, 40),
    batch=st.integers(1, 50),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_row_comes_once_an_epoch(rows: int, batch: int, epochs: int, seed: int) -> None:
    steps = -(-rows * epochs // batch)
    read = np.concatenate([rows_of(step, batch, rows, seed) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(read[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(step=st.integers(0, 10_000), small=st.integers(1, 8), factor=st.integers(1, 8))
def test_a_large_batch_is_the_small_ones_one_after_another(
    step: int, small: int, factor: int
) -> None:
    parts = [rows_of(step * factor + i, small, 23, 1) for i in range(factor)]
    assert np.array_equal(rows_of(step, small * factor, 23, 1), np.concatenate(parts))


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(permutation(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_is_the_same_in_every_release() -> None:
    assert rows_of(0, 10, 10, 0).tolist() == ORDER


@given(rows=st.integers(1, 40), batch=st.integers(1, 24), stop=st.integers(0, 30))
def test_every_row_is_seen_once_an_epoch_and_a_resume_goes_on_with_the_very_next(
    rows: int, batch: int, stop: int
) -> None:
    steps = -(-rows * 2 // batch)

    def read(step: int) -> list[int]:
        return rows_of(step, batch, rows, 7).tolist()

    whole = [row for step in range(steps) for row in read(step)]
    for epoch in range(2):
        assert sorted(whole[epoch * rows : (epoch + 1) * rows]) == list(range(rows))
    stopped = min(stop, steps)
    permutation.cache_clear()
    restored = [row for step in range(stopped, steps) for row in read(step)]
    assert restored == whole[stopped * batch :]
