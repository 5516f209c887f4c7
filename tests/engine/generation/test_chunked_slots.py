"""Texts of a server: the same to the bit whatever is beside them and known before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import pytest

from gpt2dsl import Generation, RunError
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.chunked_slots import ChunkedSlots
from gpt2dsl.engine.generation.prefixes import PrefixCache
from gpt2dsl.engine.generation.prompt import Prompt
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.generation.scores import NoChoiceError
from gpt2dsl.engine.language_model import LanguageModel, network_of
from gpt2dsl.model.chunk import CHUNK
from tests.judges import TINY, random_weights

LONG = [(7 * i) % 300 for i in range(70)]
BEGINS_ALIKE = [*LONG[:64], 5, 6]


@pytest.fixture(scope="module")
def slots(lm: LanguageModel) -> ChunkedSlots:
    made = lm.chunked_slots(4, 1 << 20)
    for _ in made.warm_up():
        pass
    return made


def asked(lm: LanguageModel, prompt: Any, **settings: Any) -> Row:
    return lm.row(prompt, Generation(**{"max_new_tokens": 8, "logprobs": 2} | settings))


def generate(slots: ChunkedSlots, rows: Sequence[Row], known: PrefixCache | None = None) -> None:
    """Generate as the server does: a chunk of a prompt, then a step of all others."""
    slots.prefixes = known or PrefixCache(0)
    waiting = list(rows)
    while waiting or slots.taking or slots.busy:
        if not slots.taking and slots.free and waiting:
            slots.begin(waiting.pop(0))
        if slots.taking:
            slots.advance()
        if slots.busy:
            slots.step()


def result(row: Row) -> Any:
    row.check()
    return row.ids, row.scores, row.prompt_scores


def test_a_text_is_the_same_to_the_bit_beside_others_and_after_a_known_beginning(
    lm: LanguageModel, slots: ChunkedSlots
) -> None:
    prompts = [LONG, [3], BEGINS_ALIKE, "the old cat", LONG[:40], "a bird"]
    alone = []
    for prompt in prompts:
        generate(slots, [row := asked(lm, prompt)])
        alone.append(result(row))
    for known in (None, PrefixCache(1 << 20)):
        for order in (prompts, prompts[::-1], prompts):
            rows = [asked(lm, prompt) for prompt in order]
            generate(slots, rows, known)
            expected = alone if order is prompts else alone[::-1]
            assert [result(row) for row in rows] == expected


def test_texts_are_those_of_the_library(lm: LanguageModel, slots: ChunkedSlots) -> None:
    prompts: list[Prompt] = [LONG, "the old cat", "a bird"]
    rows = [asked(lm, prompt) for prompt in prompts]
    generate(slots, rows)
    found = lm.continuations(prompts, Generation(max_new_tokens=8))
    assert [tuple(row.generated) for row in rows] == [one.ids for one in found]


def test_a_known_beginning_is_not_computed_again(lm: LanguageModel, slots: ChunkedSlots) -> None:
    known = PrefixCache(1 << 20)
    generate(slots, [asked(lm, LONG)], known)
    computed, cached = slots.prefilled_tokens, slots.cached_tokens
    generate(slots, [asked(lm, BEGINS_ALIKE)], known)
    assert slots.cached_tokens - cached == 64
    assert slots.prefilled_tokens - computed == 2


def test_the_prompts_tokens_are_scored_where_that_is_asked_for(
    lm: LanguageModel, slots: ChunkedSlots
) -> None:
    known = PrefixCache(1 << 20)
    generate(slots, [asked(lm, LONG)], known)
    for generates in (True, False):
        request = asked(lm, LONG, logprobs=3).request
        row = Row(attrs.evolve(request, scores_prompt=True, generates=generates))
        generate(slots, [row], known)
        assert row.prompt_scores[0] is None
        scored = [score for score in row.prompt_scores if score]
        assert len(scored) == len(LONG) - 1
        assert all(score.logprob in score.best.values() for score in scored)
        total = sum(score.logprob for score in scored)
        assert total == pytest.approx(lm.loglikelihood(LONG[:1], LONG[1:]).logprob, abs=1e-9)
        assert len(row.generated) == (8 if generates else 0)
        assert row.ended == "length"


def test_a_text_that_fails_leaves_the_others_as_they_are(
    lm: LanguageModel, slots: ChunkedSlots
) -> None:
    generate(slots, [row := asked(lm, LONG)])
    expected = result(row)
    broken = asked(lm, "the", repetition_penalty=5e-324)
    late = asked(lm, [3])
    late.request.processors.append(_fails_late)
    good = asked(lm, LONG)
    generate(slots, [broken, good, late])
    assert result(good) == expected
    assert isinstance(broken.failure, NoChoiceError)
    with pytest.raises(NoChoiceError, match="repetition_penalty = 5e-324 makes it infinite"):
        broken.check()
    assert len(late.generated) == 3
    with pytest.raises(ZeroDivisionError):
        late.check()
    assert slots.free == 4


def _fails_late(scores: Any, tokens: Any) -> Any:
    return scores if len(tokens) < 4 else scores / (1 // 0)


def test_what_is_no_number_reaches_no_later_text(tokenizer: Tokenizer) -> None:
    weights = random_weights(TINY)
    weights["transformer.wpe.weight"][40] = np.nan  # of one position
    lm = LanguageModel(network_of(TINY, weights, "cpu"), tokenizer)
    slots = lm.chunked_slots(1, 0)
    generate(slots, [good := asked(lm, [3, 4])])
    for prompt in (LONG, LONG[:38]):  # in a chunk of the prompt, and in a step
        generate(slots, [broken := asked(lm, prompt)])
        with pytest.raises(RunError, match="the model gives none"):
            broken.check()
        generate(slots, [again := asked(lm, [3, 4])])
        assert result(again) == result(good)
    with pytest.raises(RunError, match="the model gives none"):
        lm.generate([LONG], max_new_tokens=1)
    assert lm.generate([[3, 4]], max_new_tokens=8) == [whole(good)]


def whole(row: Row) -> str:
    said = row.continuation()
    return said.prompt + said.text


def test_the_least_recently_used_blocks_go_first() -> None:
    block = np.zeros((2, CHUNK, 1), np.float32)
    known = PrefixCache(3 * block.nbytes)
    first, second = list(range(2 * CHUNK)), list(range(100, 100 + 2 * CHUNK))
    for ids in (first[:CHUNK], first, second[:CHUNK]):
        known.keep(ids, block)
    assert len(known.find(first)) == 2
    known.keep(second, block)
    assert known.bytes == 3 * block.nbytes
    assert len(known.find(first)) == 2
    assert known.find(second) == []
    assert known.find(first[: CHUNK - 1]) == []
    known.keep(first, np.zeros((8, CHUNK, 1), np.float32))  # larger than all that there is room for
    assert known.bytes == 3 * block.nbytes
