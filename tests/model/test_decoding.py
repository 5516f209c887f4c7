from __future__ import annotations

import contextlib

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt2dsl.backend import cached_cell
from gpt2dsl.model import decoding
from gpt2dsl.model.decoding import KVCacheDecoder
from gpt2dsl.model.evaluation import TokenLogits
from gpt2dsl.model.gpt2 import GPT2
from tests.judges import TINY, random_ids

Logits = NDArray[np.float32]
PROMPTS = [[int(i) for i in random_ids(TINY, n, seed=n)] for n in (5, 1, 11)]


def filled(network: GPT2, prompts: list[list[int]], batch: int) -> tuple[KVCacheDecoder, Logits]:
    """A decoder with these prompts as its first rows, and the logits after each."""
    decoder = KVCacheDecoder(network, batch)
    return decoder, decoder.prefill(range(len(prompts)), prompts)


def test_the_cache_gives_the_logits_of_a_whole_forward_pass(tiny: GPT2) -> None:
    scores = TokenLogits(tiny)
    rows = [list(prompt) for prompt in PROMPTS]
    decoder, logits = filled(tiny, PROMPTS, len(PROMPTS))
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
    together, first = filled(tiny, PROMPTS, len(PROMPTS))
    found = [first, *(together.step(np.full(len(PROMPTS), i, np.int32)) for i in range(3))]
    for row, prompt in enumerate(PROMPTS):
        alone, first = filled(tiny, [prompt], 1)
        expected = [first, *(alone.step(np.array([i], np.int32)) for i in range(3))]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[row], other[0], atol=1e-5, rtol=0)


def test_a_cache_as_long_as_the_positions_can_be_filled(tiny: GPT2) -> None:
    prompt = [int(i) for i in random_ids(TINY, TINY.positions - 1)]
    decoder, _ = filled(tiny, [prompt], 1)
    last = decoder.step(np.array([7], np.int32))
    whole = TokenLogits(tiny).logits(np.array([[*prompt, 7]], np.int32))[0, -1]
    np.testing.assert_allclose(last[0], whole, atol=1e-5, rtol=0)


def test_a_row_is_filled_anew_while_others_go_on_and_rows_can_change_places(tiny: GPT2) -> None:
    scores = TokenLogits(tiny)
    decoder, _ = filled(tiny, PROMPTS[:2], 2)
    decoder.step(np.array([1, 2], np.int32))
    decoder.prefill([1], [PROMPTS[2]])
    decoder.reorder(np.array([1, 0]))
    found = decoder.step(np.array([4, 5], np.int32))
    rows = [[*PROMPTS[2], 4], [*PROMPTS[0], 1, 5]]
    for row, one in zip(rows, found, strict=True):
        whole = scores.logits(np.array([row], np.int32))[0, -1]
        np.testing.assert_allclose(one, whole, atol=1e-5, rtol=0)


def test_caches_grow_and_keep_what_they_hold(tiny: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SHORTEST_CACHE", 8)
    decoder, logits = filled(tiny, PROMPTS[:1], 2)
    row = list(PROMPTS[0])
    for _ in range(40):
        row.append(int(logits[0].argmax()))
        logits = decoder.step(np.array([row[-1], 0], np.int32))
    whole = TokenLogits(tiny).logits(np.array([row], np.int32))[0, -1]
    np.testing.assert_allclose(logits[0], whole, atol=1e-5, rtol=0)
    assert sorted(decoder._caches) == [32, 64]


def test_no_cache_grows_for_a_row_that_is_done_with(
    tiny: GPT2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "SHORTEST_CACHE", 8)
    decoder, _ = filled(tiny, [[1], [2]], 2)
    for _ in range(25):
        decoder.release(0)
        decoder.prefill([0], [[1]])
        decoder.release(1)
        decoder.step(np.array([3, 0], np.int32))
    assert list(decoder._positions) == [2, 0]
    assert list(decoder._caches) == [32]


def test_lengths_of_graphs_are_few_and_never_too_short() -> None:
    lengths = [decoding.prompt_length(n, 1024) for n in range(1, 1025)]
    assert all(length >= n for n, length in enumerate(lengths, 1))
    assert sorted(set(lengths)) == [32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    assert {decoding.cache_length(n, 900) for n in range(1, 901)} == {128, 256, 512, 900}


def test_lengths_that_were_compiled_ahead_are_not_compiled_again(
    tiny: GPT2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "SHORTEST_CACHE", 40)
    decoder = KVCacheDecoder(tiny, 2)
    assert decoder.lengths == [40, 80]
    for length in decoder.lengths:
        decoder.reserve(length)
        decoder.step(np.zeros(2, np.int32))
    decoder.reserve(1)
    decoder.prefill([0], PROMPTS[:1])
    compiled: list[object] = []

    def kept(*depends: object) -> contextlib.AbstractContextManager[None]:
        compiled.append(depends)
        return contextlib.nullcontext()

    monkeypatch.setattr(cached_cell, "cached_compilation", kept)
    for _ in range(40):
        decoder.step(np.array([1, 0], np.int32))
    assert not compiled
    assert sorted(decoder._caches) == [40, 80]
