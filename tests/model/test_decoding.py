from __future__ import annotations

import numpy as np

from gpt2dsl.model.decoding import Decoder
from gpt2dsl.model.network import GPT2, Scores
from tests.judges import TINY, random_ids

PROMPTS = [[int(i) for i in random_ids(TINY, n, seed=n)] for n in (5, 1, 11)]


def test_the_cache_gives_the_logits_of_a_whole_forward_pass(tiny: GPT2) -> None:
    scores = Scores(tiny)
    decoder = Decoder(tiny, len(PROMPTS), 40)
    rows = [list(prompt) for prompt in PROMPTS]
    logits = decoder.prefill(PROMPTS)
    for i in range(20):
        if i % 9 == 0:
            for row, found in zip(rows, logits, strict=True):
                whole = scores.logits(np.array([row], np.int32))[0, -1]
                np.testing.assert_allclose(found, whole, atol=1e-5, rtol=0)
        chosen = logits.argmax(-1).astype(np.int32)
        for row, token in zip(rows, chosen, strict=True):
            row.append(int(token))
        logits = decoder.step(chosen)


def test_ragged_prompts_together_give_what_each_gives_alone(tiny: GPT2) -> None:
    together = Decoder(tiny, len(PROMPTS), 40)
    found = [together.prefill(PROMPTS)]
    found += [together.step(np.full(len(PROMPTS), i, np.int32)) for i in range(3)]
    alone = Decoder(tiny, 1, 40)
    for row, prompt in enumerate(PROMPTS):
        expected = [alone.prefill([prompt])]
        expected += [alone.step(np.array([i], np.int32)) for i in range(3)]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[row], other[0], atol=1e-5, rtol=0)


def test_a_cache_as_long_as_the_positions_can_be_filled(tiny: GPT2) -> None:
    decoder = Decoder(tiny, 1, TINY.positions)
    prompt = [int(i) for i in random_ids(TINY, TINY.positions - 1)]
    decoder.prefill([prompt])
    last = decoder.step(np.array([7], np.int32))
    whole = Scores(tiny).logits(np.array([[*prompt, 7]], np.int32))[0, -1]
    np.testing.assert_allclose(last[0], whole, atol=1e-5, rtol=0)
