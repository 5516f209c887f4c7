"""Beam search against transformers.generate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gpt2dsl import Generation, RunError
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.beams import Beams
from gpt2dsl.engine.generation.request import Request
from gpt2dsl.engine.language_model import LanguageModel

NEW = 12


def theirs(judge: Any, tokenizer: Tokenizer, prompt: str, **settings: Any) -> Any:
    ids = torch.tensor([tokenizer.encode(prompt)])
    found = judge.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
        return_dict_in_generate=True, output_scores=True, **settings,
    )  # fmt: skip
    return found.sequences[:, ids.shape[1] :].tolist(), found.sequences_scores.tolist()


def shortened(ids: list[int], ends: list[int]) -> list[int]:
    """Without the padding after the first end."""
    at = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: at + 1]


def test_beams_are_those_of_transformers_for_100_ragged_prompts(
    lm: LanguageModel, judge: Any, tokenizer: Tokenizer, prompts: list[str]
) -> None:
    found = lm.continuations(prompts, Generation(beams=4, max_new_tokens=NEW))
    same = 0
    for prompt, one in zip(prompts, found, strict=True):
        ids, scores = theirs(judge, tokenizer, prompt, num_beams=4)
        same += list(one.ids) == shortened(ids[0], [tokenizer.end])
        assert one.score == pytest.approx(scores[0], abs=1e-4)
    assert same == len(prompts)


@pytest.mark.parametrize(
    "settings",
    [
        {"length_penalty": 3.0},
        {"length_penalty": -2.0},
        {"length_penalty": 0.0, "early_stopping": "never"},
        {"early_stopping": True},
        {"early_stopping": "never"},
        {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
    ],
    ids=lambda one: "-".join(f"{key}={value}" for key, value in one.items()),
)
def test_lengths_ends_and_several_texts_are_transformers_too(
    lm: LanguageModel, judge: Any, tokenizer: Tokenizer, prompts: list[str], settings: Any
) -> None:
    """Frequent tokens are ends here, so that beams end early, late and never."""
    free = lm.continuations(prompts[:12], Generation(max_new_tokens=NEW))
    ends = sorted({one.ids[3] for one in free} | {one.ids[7] for one in free})[:4]
    wanted = Generation(beams=3, num_return_sequences=3, max_new_tokens=NEW, eos=ends, **settings)
    found = lm.continuations(prompts[:12], wanted)
    for i, prompt in enumerate(prompts[:12]):
        ids, scores = theirs(
            judge, tokenizer, prompt, num_beams=3, num_return_sequences=3, eos_token_id=ends,
            **settings,
        )  # fmt: skip
        ours = found[3 * i : 3 * i + 3]
        assert [list(one.ids) for one in ours] == [shortened(one, ends) for one in ids]
        assert [one.score for one in ours] == pytest.approx(scores, rel=1e-6, abs=1e-4)
    assert {one.ended for one in found} >= {"eos"}


def test_beams_that_are_drawn_repeat_with_their_seed(lm: LanguageModel) -> None:
    def drawn(seed: int) -> list[str]:
        return lm.generate(["the"], beams=3, do_sample=True, max_new_tokens=8, seed=seed)

    assert drawn(1) == drawn(1)
    assert len({drawn(seed)[0] for seed in range(5)}) > 1


def test_scores_that_are_no_numbers_stop_a_search(tokenizer: Tokenizer) -> None:
    beams = Beams(
        Request(
            prompt="a", ids=(5,), generation=Generation(beams=2), tokenizer=tokenizer, positions=80
        )
    )
    with pytest.raises(RunError, match="the model gives none"):
        beams.take(np.full((2, len(tokenizer)), np.nan, np.float32))
