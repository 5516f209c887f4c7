"""Texts token by token: choice, ends, batches; against transformers.generate."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from gpt2dsl import Generation, InputError, RunError, SpecError
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.request import Request
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.engine.text_pipeline import TextGeneration
from tests.judges import TINY

NEW = 20


def row(tokenizer: Tokenizer, number: int = 0, **settings: Any) -> Row:
    ids = tuple(tokenizer.encode("the"))
    return Row(
        Request(
            prompt="the", ids=ids, generation=Generation(**settings), tokenizer=tokenizer,
            positions=80, number=number,
        )
    )  # fmt: skip


def theirs(judge: Any, encoder: Tokenizer, prompt: str, **settings: Any) -> list[int]:
    """The tokens that transformers generates after one prompt."""
    ids = torch.tensor([encoder.encode(prompt)])
    found = judge.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0]
    return [int(i) for i in found[ids.shape[1] :]]


def margin(judge: Any, tokenizer: Tokenizer, prompt: str, ids: list[int], at: int) -> float:
    """By how much the best next token beats the second, after so many generated ones."""
    whole = torch.tensor([[*tokenizer.encode(prompt), *ids[:at]]])
    with torch.no_grad():
        best = judge(whole).logits[0, -1].topk(2).values
    return float(best[0] - best[1])


def test_greedy_tokens_are_those_of_transformers_for_100_ragged_prompts(
    lm: LanguageModel, judge: Any, tokenizer: Tokenizer, prompts: list[str]
) -> None:
    found = lm.continuations(prompts, Generation(max_new_tokens=NEW))
    same = 0
    for prompt, one in zip(prompts, found, strict=True):
        expected = theirs(judge, tokenizer, prompt, max_new_tokens=NEW, do_sample=False)
        if list(one.ids) == expected:
            same += 1
            continue
        pairs = zip(one.ids, expected, strict=False)
        at = next(i for i, (a, b) in enumerate(pairs) if a != b)
        assert margin(judge, tokenizer, prompt, expected, at) < 1e-4
    assert same > 95


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 15},
        {"max_length": 12},
        {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "min_length": 10},
    ],
    ids="-".join,
)
def test_greedy_with_processors_is_transformers_too(
    lm: LanguageModel, judge: Any, tokenizer: Tokenizer, prompts: list[str], settings: Any
) -> None:
    if "max_length" not in settings:
        settings = {"max_new_tokens": NEW, **settings}
    found = lm.continuations(prompts[:20], Generation(**settings))
    expected = [theirs(judge, tokenizer, one, do_sample=False, **settings) for one in prompts[:20]]
    assert [list(one.ids) for one in found] == expected


def test_stop_strings_stop_where_transformers_stops(
    lm: LanguageModel, judge: Any, tokenizer: Tokenizer, prompts: list[str]
) -> None:
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415  # slow to import

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer._inner)
    (free,) = lm.continuations(prompts[:1], Generation(max_new_tokens=NEW))
    stops = [word for word in free.text.split() if word.isascii() and len(word) > 1][1:3]
    assert len(stops) == 2
    for prompt in prompts[:8]:
        (one,) = lm.continuations([prompt], Generation(max_new_tokens=NEW, stop_strings=stops))
        expected = theirs(
            judge, tokenizer, prompt, do_sample=False, max_new_tokens=NEW,
            stop_strings=stops, tokenizer=fast,
        )  # fmt: skip
        assert list(one.ids) == expected
    (first,) = lm.continuations(prompts[:1], Generation(max_new_tokens=NEW, stop_strings=stops))
    assert first.ended == "stop"
    assert first.tokens < free.tokens


def test_any_of_several_end_tokens_ends_a_text(lm: LanguageModel) -> None:
    (free,) = lm.continuations(["the"], Generation(max_new_tokens=NEW))
    (ended,) = lm.continuations(["the"], Generation(max_new_tokens=NEW, eos=[300, free.ids[4]]))
    at = free.ids.index(free.ids[4])
    assert ended.ids == free.ids[: at + 1]
    assert (ended.ended, free.ended) == ("eos", "length")
    assert ended.text == lm.tokenizer.decode(free.ids[:at])


def test_eight_ragged_prompts_in_a_batch_give_what_each_gives_alone(
    lm: LanguageModel, prompts: list[str]
) -> None:
    some = [*prompts[:6], "", " ".join(prompts[:9])]
    assert len({len(lm.tokenizer.encode(one)) for one in some}) > 4
    for draws in (False, True):
        generation = Generation(max_new_tokens=30, do_sample=draws, top_k=20)
        together = lm.continuations(some, generation)
        for number, (prompt, one) in enumerate(zip(some, together, strict=True)):
            alone = lm.row(prompt, generation, number)
            assert "".join(lm.pieces(alone)) == one.text
            assert tuple(alone.generated) == one.ids


def test_more_prompts_than_places_wait_for_their_turn(
    lm: LanguageModel, prompts: list[str]
) -> None:
    together = lm.continuations(prompts[:19], Generation(max_new_tokens=5))
    assert [one.prompt for one in together] == prompts[:19]
    last = lm.continuations(prompts[18:19], Generation(max_new_tokens=5))
    assert together[18] == last[0]


def test_streams_that_are_read_in_turns_do_not_meet(lm: LanguageModel) -> None:
    prompts = ["the old", "a bird sang"]
    expected = [one.removeprefix(p) for p in prompts for one in lm.generate([p], max_new_tokens=9)]
    streams = [lm.stream(prompt, max_new_tokens=9) for prompt in prompts]
    texts = ["", ""]
    for pieces in zip_longest(*streams, fillvalue=""):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    assert texts == expected


@pytest.mark.parametrize("more", [{}, {"renormalize_logits": True}, {"do_sample": True}])
def test_no_token_is_chosen_where_all_are_ruled_out(tokenizer: Tokenizer, more: Any) -> None:
    one = row(tokenizer, suppress_tokens=list(range(TINY.vocab)), **more)
    with pytest.raises(RunError, match="all are ruled out"), np.errstate(invalid="ignore"):
        one.take(np.zeros(TINY.vocab, np.float32))


def test_the_best_tokens_contain_the_one_that_was_drawn(tokenizer: Tokenizer) -> None:
    logits = np.linspace(0, 1, TINY.vocab).astype(np.float32)
    for best in (0, 1, 3):
        one = row(tokenizer, logprobs=best, suppress_tokens=list(range(1, TINY.vocab)))
        one.take(logits)
        (score,) = one.scores
        assert list(score.best.values())[-1] == score.logprob
        assert score.best[score.token] == score.logprob
        assert len(score.best) == best + 1


def test_what_is_no_single_text_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(TypeError, match="expected a text, found list"):
        lm.stream(["a", "b"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="expected a text, found int 3"):
        lm.generate([3])  # type: ignore[list-item]
    wrong: Any
    for wrong, shown in (
        (5, "int 5"),
        (None, "NoneType None"),
        ({"a": 1}, "dict"),
        (b"a", "bytes"),
    ):
        said = f"expected a text or a list of texts, found {shown}"
        for use in (lm.generate, lm.loglikelihood_rolling, TextGeneration(lm)):
            with pytest.raises(TypeError, match=said):
                use(wrong)
        with pytest.raises(TypeError, match=said):
            lm.loglikelihood(wrong, "a")
    with pytest.raises(ValueError, match="a stream is one text"):
        lm.stream("a", do_sample=True, num_return_sequences=2)


def test_greedy_takes_the_best(tokenizer: Tokenizer) -> None:
    logits = np.random.default_rng(1).normal(size=301).astype(np.float32)
    assert row(tokenizer).take(logits) == int(logits.argmax())


def test_draws_repeat_with_the_seed_and_differ_by_number(tokenizer: Tokenizer) -> None:
    logits = np.zeros(301, np.float32)

    def draws(seed: int, number: int) -> list[int]:
        one = row(tokenizer, number, do_sample=True, seed=seed)
        return [one.take(logits) for _ in range(12)]

    assert draws(1, 0) == draws(1, 0)
    assert draws(1, 0) != draws(1, 1)
    assert draws(1, 0) != draws(2, 0)


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.2}, {"typical_p": 0.8}],
    ids=lambda one: "-".join(one) or "plain",
)
def test_draws_follow_the_distribution_of_the_processors(
    tokenizer: Tokenizer, settings: dict[str, Any]
) -> None:
    """Chi-square at p = 0.001."""
    logits = np.full(301, -30.0, np.float32)
    logits[:6] = np.log([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    one = row(tokenizer, do_sample=True, **settings)
    scores = logits.astype(np.float64)
    for process in one.request.processors:
        scores = process(scores, one.ids)
    expected = np.exp(scores - scores.max())
    expected /= expected.sum()
    found = np.bincount([one._chosen(logits) for _ in range(4000)], minlength=301)
    likely = expected > 1e-6
    assert found[~likely].sum() == 0
    share = expected[likely] / expected[likely].sum()
    assert chisquare(found[likely], share * 4000).pvalue > 0.001


def test_log_probabilities_are_the_models_own(
    lm: LanguageModel, judge: Any, tokenizer: Tokenizer
) -> None:
    (one,) = lm.continuations(
        ["the old"], Generation(max_new_tokens=4, logprobs=3, repetition_penalty=2.0)
    )
    ids = [*tokenizer.encode("the old"), *one.ids]
    with torch.no_grad():
        expected = judge(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
    start = len(ids) - len(one.ids) - 1
    for at, (token, said) in enumerate(zip(one.ids, one.scores, strict=True)):
        assert said.logprob == pytest.approx(expected[start + at, token], abs=1e-4)
        best = sorted(expected[start + at])[:-4:-1]
        assert list(said.best.values()) == pytest.approx(best, abs=1e-4)


def test_several_texts_of_one_prompt_differ_and_come_in_order(lm: LanguageModel) -> None:
    found = lm.generate(
        ["the", "a"], max_new_tokens=12, do_sample=True, num_return_sequences=3, seed=4
    )
    assert len(set(found)) == 6
    assert [one.split()[0][:1] for one in found] == ["t"] * 3 + ["a"] * 3


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"num_return_sequences": 2}, "generation.num_return_sequences"),
        ({"num_return_sequences": 4, "beams": 3}, "generation.num_return_sequences"),
        ({"beams": 2, "logprobs": 1}, "generation.logprobs"),
        ({"beams": 2, "stream": True}, "generation.stream"),
        ({"stop_strings": ["a", ""]}, "generation.stop_strings"),
        ({"bad_words": [""]}, "generation.bad_words"),
        ({"max_new_tokens": 3, "min_new_tokens": 4}, "generation.min_new_tokens"),
        ({"max_new_tokens": 3, "max_length": 4}, "generation.max_length"),
        ({"temperature": 0}, "generation.temperature"),
        ({"top_p": 0}, "generation.top_p"),
        ({"max_new_tokens": -1}, "generation.max_new_tokens"),
        ({"min_length": -1}, "generation.min_length"),
        ({"eos": [-1]}, "generation.eos"),
        ({"early_stopping": "yes"}, "generation.early_stopping"),
    ],
)
def test_settings_that_can_not_be_are_one_clear_fault(
    lm: LanguageModel, settings: dict[str, Any], key: str
) -> None:
    with pytest.raises(SpecError) as caught:
        lm.generate(["the"], **settings)
    assert [fault.key for fault in caught.value.faults] == [key]


def test_a_prompt_that_leaves_no_room_is_one_clear_line(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match=r"one to generate 3 fit into generation.max_length = 4"):
        lm.generate(["the old cat sat on the mat and then ran"], max_length=4)
    with pytest.raises(InputError, match="301 is no id: there are 301"):
        lm.generate(["the"], eos=[301])


def test_a_prompt_up_to_the_last_position_gets_one_token(lm: LanguageModel) -> None:
    prompt = lm.tokenizer.decode([40] * (TINY.positions - 1))
    assert len(lm.tokenizer.encode(prompt)) == TINY.positions - 1
    (one,) = lm.continuations([prompt], Generation(max_new_tokens=9))
    assert (one.tokens, one.ended) == (1, "positions")


@pytest.mark.parametrize("draws", [False, True])
def test_scores_that_are_no_numbers_or_all_ruled_out_stop_a_text(
    tokenizer: Tokenizer, draws: bool
) -> None:
    logits = np.zeros(TINY.vocab, np.float32)
    logits[7] = np.nan
    with pytest.raises(RunError, match="the model gives none"):
        row(tokenizer, do_sample=draws).take(logits)
    one = row(tokenizer, do_sample=draws, bad_words=["a"])
    one.request.processors.append(lambda scores, _: scores - np.inf)
    with pytest.raises(RunError, match="all are ruled out"):
        one.take(np.zeros(TINY.vocab, np.float32))


def test_parts_of_characters_are_told_apart_by_their_bytes() -> None:
    gpt2 = Tokenizer.load("gpt2")
    first, second = gpt2.encode("今")[:1], gpt2.encode("ÿ")[:1]
    one = Row(
        Request(
            prompt="a", ids=(64,), tokenizer=gpt2, positions=80,
            generation=Generation(logprobs=2, max_new_tokens=2),
        )
    )  # fmt: skip
    logits = np.zeros(len(gpt2), np.float32)
    logits[[*first, *second]] = 3, 2
    one.take(logits)
    (score,) = one.continuation().scores
    assert score.token == "bytes:" + "".join(f"\\x{byte:02x}" for byte in gpt2.bytes_of(first))
    assert len(score.best) == 2
