from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.data import rows
from gpt2dsl.data.rows import Rows
from gpt2dsl.errors import InputError

SIZES = {"tokens": st.integers(2, 200), "length": st.integers(1, 9), "batch": st.integers(1, 5)}


@given(**SIZES)
def test_evaluation_predicts_every_token_but_the_first_once(
    tokens: int, length: int, batch: int
) -> None:
    stream = np.arange(tokens, dtype=np.uint16)
    inputs, labels = [], []
    for ids, label, mask in Rows(stream, length).evaluation_batches(batch):
        assert ids.shape == label.shape == mask.shape == (batch, length)
        assert [str(array.dtype) for array in (ids, label, mask)] == ["int32", "int32", "float32"]
        inputs += ids[mask == 1].tolist()
        labels += label[mask == 1].tolist()
        assert mask.any()
    assert inputs == list(range(tokens - 1))
    assert labels == list(range(1, tokens))


@given(**SIZES)
def test_training_predicts_what_evaluation_does_but_for_the_tail(
    tokens: int, length: int, batch: int
) -> None:
    del batch
    data = Rows(np.arange(tokens, dtype=np.int32), length)
    ids, labels = data.batch(np.arange(len(data)))
    assert ids.dtype == labels.dtype == np.int32
    assert ids.ravel().tolist() == list(range(len(data) * length))
    assert np.array_equal(labels, ids + 1)
    assert 0 <= tokens - 1 - len(data) * length < length


def test_rows_come_in_the_order_asked_for() -> None:
    ids, labels = Rows(np.arange(13), 4).batch([2, 0])
    assert ids.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert labels.tolist() == [[9, 10, 11, 12], [1, 2, 3, 4]]


def test_too_little_for_a_batch_is_refused_with_both_numbers() -> None:
    Rows(np.zeros(2 * 8 + 1, np.int32), 8, "x.txt").require(2)
    with pytest.raises(InputError, match=r"x.txt: it has 16 tokens; .* needs 17 \[G2-305\]"):
        Rows(np.zeros(16, np.int32), 8, "x.txt").require(2)
    with pytest.raises(InputError, match="1 token; evaluation needs 2"):
        Rows(np.zeros(1, np.int32), 8).evaluation_batches(1)
    assert rows.count(0, 8) == 0
