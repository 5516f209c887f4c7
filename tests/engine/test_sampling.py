from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpt2dsl import Generation
from gpt2dsl.engine.sampling import Sampler, penalised, softmax, top_k, top_p

VOCAB = 50


def scores_of(seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=VOCAB) * 4


@given(
    st.integers(0, 10_000),
    st.floats(0.2, 3),
    st.integers(1, VOCAB + 5),
    st.floats(0.05, 0.99),
    st.floats(0.5, 2),
)
def test_processors_are_those_of_transformers_in_their_order(
    seed: int, temperature: float, k: int, p: float, penalty: float
) -> None:
    said = [3, 3, 7, 49]
    ours = penalised(scores_of(seed), said, penalty)
    ours = top_p(top_k(ours / temperature, k), p)
    theirs = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(penalty),
            TemperatureLogitsWarper(temperature),
            TopKLogitsWarper(k),
            TopPLogitsWarper(p),
        ]
    )(torch.tensor([said]), torch.tensor(scores_of(seed))[None])[0].numpy()
    np.testing.assert_allclose(softmax(ours), softmax(theirs), atol=1e-9)


def test_greedy_takes_the_best() -> None:
    logits = scores_of(1).astype(np.float32)
    assert Sampler(Generation(), 0).next(logits, []) == int(logits.argmax())


def test_draws_repeat_with_the_seed_and_differ_by_row() -> None:
    logits = np.zeros(VOCAB, np.float32)

    def draws(seed: int, row: int) -> list[int]:
        sampler = Sampler(Generation(do_sample=True, seed=seed), row)
        return [sampler.next(logits, []) for _ in range(12)]

    assert draws(1, 0) == draws(1, 0)
    assert draws(1, 0) != draws(1, 1)
    assert draws(1, 0) != draws(2, 0)


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(Generation(do_sample=True), 0)
    count = 4000
    found = np.bincount([sampler.next(logits, []) for _ in range(count)], minlength=4)
    expected = np.exp(logits) * count
    assert ((found - expected) ** 2 / expected).sum() < 16.27  # chi-square, 3 degrees, p = 0.001


@pytest.mark.parametrize("p", [1e-6, 0.3])
def test_top_p_keeps_one_at_least(p: float) -> None:
    assert np.isfinite(top_p(scores_of(2), p)).sum() >= 1
