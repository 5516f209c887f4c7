from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from gpt2dsl import Generation, RunError
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.processors import bad_sequences, discouraged, processors
from gpt2dsl.engine.generation.scores import softmax
from gpt2dsl.engine.generation.warpers import top_p

VOCAB = 301
SAID = [5, 9, 5, 9, 7, 260, 5, 9]


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=2, vocab_size=VOCAB))


def scores_of(seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=VOCAB) * 4


def theirs(model: GPT2LMHeadModel, scores: Any, eos: int, **settings: Any) -> Any:
    """The scores after transformers' processors, those that it makes of these settings."""
    config = GenerationConfig(eos_token_id=eos, max_new_tokens=30, **settings)
    config._eos_token_tensor = torch.tensor([eos])
    made = model._get_logits_processor(config, input_ids_seq_length=4, device="cpu")
    return made(torch.tensor([SAID]), torch.tensor(scores)[None])[0].numpy()


def ours(tokenizer: Tokenizer, scores: Any, **settings: Any) -> Any:
    for process in processors(Generation(**settings), tokenizer, 4, (tokenizer.end,)):
        scores = process(scores, SAID)
    return scores


SETTINGS = [
    {"repetition_penalty": 1.7},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 3},
    {"min_length": 9},
    {"min_new_tokens": 5},
    {"do_sample": True, "temperature": 0.6},
    {"do_sample": True, "top_k": 7},
    {"do_sample": True, "top_p": 0.4},
    {"do_sample": True, "min_p": 0.05},
    {"do_sample": True, "typical_p": 0.3},
    {"do_sample": True, "typical_p": 0.95},
    {
        "do_sample": True, "repetition_penalty": 0.8, "no_repeat_ngram_size": 2, "min_length": 20,
        "temperature": 1.5, "top_k": 90, "top_p": 0.9, "min_p": 0.001, "typical_p": 0.9,
    },
]  # fmt: skip


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("settings", SETTINGS, ids="-".join)
def test_scores_are_those_of_transformers(
    settings: dict[str, Any], beams: int, model: GPT2LMHeadModel, tokenizer: Tokenizer
) -> None:
    for seed in range(20):
        scores = scores_of(seed)
        given = {"top_k": 0, **settings}
        found = ours(tokenizer, scores, beams=beams, **settings)
        expected = theirs(model, scores, tokenizer.end, num_beams=beams, **given)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@given(
    st.integers(0, 10_000), st.floats(0.2, 3), st.integers(0, VOCAB + 5), st.floats(0.05, 0.99),
    st.floats(0.5, 2), st.floats(0, 1), st.floats(0.05, 0.99),
)  # fmt: skip
def test_all_of_them_together_keep_transformers_order(
    model: GPT2LMHeadModel, tokenizer: Tokenizer, seed: int, temperature: float, k: int, p: float,
    penalty: float, least: float, typical: float,
) -> None:  # fmt: skip
    settings = {
        "do_sample": True, "temperature": temperature, "top_k": k, "top_p": p, "min_p": least,
        "repetition_penalty": penalty, "typical_p": typical,
    }  # fmt: skip
    found = ours(tokenizer, scores_of(seed), **settings)
    expected = theirs(model, scores_of(seed), tokenizer.end, **settings)
    np.testing.assert_allclose(softmax(found), softmax(expected), atol=1e-9)


def test_bad_words_are_blocked_as_transformers_blocks_their_ids(
    model: GPT2LMHeadModel, tokenizer: Tokenizer
) -> None:
    words = [tokenizer.decode([9, 11]), tokenizer.decode([260]), tokenizer.decode([40, 5])]
    ids = bad_sequences(words, tokenizer)
    found = ours(tokenizer, scores_of(1), bad_words=words)
    expected = theirs(model, scores_of(1), tokenizer.end, bad_words_ids=ids)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.isinf(found).sum() >= 2


def test_a_bad_word_that_is_the_end_of_text_is_let_pass(tokenizer: Tokenizer) -> None:
    found = ours(tokenizer, scores_of(1), bad_words=[tokenizer.decode([tokenizer.end])])
    assert np.isfinite(found[tokenizer.end])


@pytest.mark.parametrize("p", [1e-6, 0.3])
def test_top_p_keeps_one_at_least(p: float) -> None:
    assert np.isfinite(top_p(scores_of(2), p)).sum() >= 1


def test_temperatures_and_penalties_near_the_ends_of_float64_choose_or_say_why_not(
    tokenizer: Tokenizer,
) -> None:
    for seed in range(4):
        scores = scores_of(seed)
        cold = ours(tokenizer, scores, do_sample=True, temperature=1e-308, top_p=0.9, min_p=0.1)
        assert softmax(cold).argmax() == scores.argmax()
        assert softmax(cold).max() == 1.0
        hot = ours(tokenizer, scores, do_sample=True, temperature=1e308, typical_p=0.9)
        assert np.isfinite(softmax(hot)).all()
        small = ours(tokenizer, scores * 1e-20, repetition_penalty=1e-300)
        assert np.isfinite(small).all()
        for penalty in (1e-308, 5e-324):
            with pytest.raises(RunError, match=r"generation.repetition_penalty = .* makes it inf"):
                ours(tokenizer, np.abs(scores) * 1e3, repetition_penalty=penalty)
    decay = [1, 1e300]
    with pytest.raises(RunError, match=r"generation\.exponential_decay_length_penalty"):
        ours(tokenizer, scores_of(1) * 1e9, exponential_decay_length_penalty=decay)


@pytest.mark.parametrize("draws", [False, True])
def test_where_all_is_ruled_out_nothing_warns(tokenizer: Tokenizer, draws: bool) -> None:
    settings = {"do_sample": draws, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.5, "top_k": 3}
    found = ours(
        tokenizer, scores_of(1), suppress_tokens=list(range(VOCAB)), epsilon_cutoff=0.1,
        eta_cutoff=0.1, temperature=0.5, **settings,
    )  # fmt: skip
    assert (found == -np.inf).all()


def test_openais_penalties_are_taken_off_once_and_each_time() -> None:
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    found = discouraged(scores, [3, 1, 3], presence=0.5, frequency=0.25)
    np.testing.assert_array_equal(found, [1.0, 2.0 - 0.75, 3.0, 4.0 - 1.0])
    np.testing.assert_array_equal(discouraged(scores, [], 1.0, 1.0), scores)
    np.testing.assert_array_equal(discouraged(scores, [0], -2.0, 0.0), [3.0, 2.0, 3.0, 4.0])
