"""Any generation_config.json, against transformers.generate with the same file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from gpt2dsl import Generation
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.processors import processors
from gpt2dsl.engine.generation.scores import softmax
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.errors import Gpt2DslError
from gpt2dsl.weights.defaults import Defaults, Document
from tests.judges import TINY
from tests.strategies import generation_configs

FILE = Path("generation_config.json")
LENGTHS = {"max_length", "max_new_tokens"}


def defaults_of(content: dict[str, Any]) -> Defaults:
    return Defaults.of(None, Document(FILE, content), TINY)


def accepted(content: dict[str, Any]) -> GenerationConfig:
    """The file as transformers reads it, where it does."""
    try:
        return GenerationConfig(**content)
    except ValueError:
        assume(False)
        raise


@contextmanager
def beside(lm: LanguageModel, judge: Any, content: dict[str, Any]) -> Iterator[None]:
    """Both with the file beside their weights."""
    before = lm.defaults, judge.generation_config
    lm.defaults, judge.generation_config = defaults_of(content), accepted(content)
    try:
        yield
    finally:
        lm.defaults, judge.generation_config = before


def theirs(judge: Any, ids: list[int], **more: Any) -> list[list[int]] | None:
    """The tokens that transformers gives; None where it fails."""
    given = torch.tensor([ids])
    try:
        found = judge.generate(given, attention_mask=torch.ones_like(given), **more)
    except (ValueError, RuntimeError, TypeError, IndexError):
        return None
    return [row[len(ids) :].tolist() for row in found]


def ours(lm: LanguageModel, prompt: str, asked: dict[str, Any]) -> tuple[list[list[int]], str]:
    """Our tokens; or none, and why."""
    try:
        return [list(one.ids) for one in lm.continuations([prompt], Generation(**asked))], ""
    except Gpt2DslError as error:
        return [], str(error)


def same(one: list[list[int]], other: list[list[int]]) -> bool:
    """Whether texts are equal but for padding after their end."""
    return len(one) == len(other) and all(
        row == expected[: len(row)] and len(set(expected[len(row) :])) <= 1
        for row, expected in zip(one, other, strict=True)
    )


def check(
    lm: LanguageModel, judge: Any, content: dict[str, Any], prompt: str, **asked: Any
) -> None:
    """Equal texts, or a refusal that names a key of the file."""
    asked = asked or ({} if LENGTHS & content.keys() else {"max_new_tokens": 8})
    with beside(lm, judge, content):
        expected = theirs(judge, lm.tokenizer.encode(prompt), **asked)
        found, refusal = ours(lm, prompt, asked)
    if refusal:
        named = [key for key in content if key.removeprefix("num_") in refusal]
        assert named or "all are ruled out" in refusal
    elif expected is not None:
        assert same(found, expected)


@given(generation_configs(TINY.vocab), st.sampled_from(["the", "the old cat"]))
@settings(max_examples=25)
@pytest.mark.filterwarnings("ignore")
def test_greedy_texts_and_beams_are_those_of_transformers_or_refused_by_name(
    lm: LanguageModel, judge: Any, content: dict[str, Any], prompt: str
) -> None:
    assume(not content.get("do_sample"))
    check(lm, judge, content, prompt)


@pytest.mark.soak
@given(generation_configs(TINY.vocab), st.sampled_from(["the", "the old cat", "a"]))
@settings(max_examples=1500)
@pytest.mark.filterwarnings("ignore")
def test_many_files_give_the_texts_of_transformers(
    lm: LanguageModel, judge: Any, content: dict[str, Any], prompt: str
) -> None:
    assume(not content.get("do_sample"))
    check(lm, judge, content, prompt)


@given(generation_configs(TINY.vocab), st.integers(0, 999), st.integers(1, 8))
@pytest.mark.filterwarnings("ignore")
def test_draws_are_from_the_distribution_of_transformers(
    judge: Any, tokenizer: Tokenizer, content: dict[str, Any], seed: int, prompt: int
) -> None:
    content = {**content, "do_sample": True, "max_new_tokens": 9}
    config, defaults = accepted(content), defaults_of(content)
    ends = defaults.completed(Generation(do_sample=False)).eos or (defaults.ends or ())
    config._eos_token_tensor = torch.tensor(ends) if ends else None
    config.max_length = prompt + 9
    said = [5, 9, 5, 9, 7, 260, 5, 9, 11][:8]
    scores = np.random.default_rng(seed).normal(size=TINY.vocab) * 4
    assume(not defaults.refused and config.num_beams == 1)
    try:
        made = judge._get_logits_processor(
            config, prompt, torch.tensor([said[:prompt]]), device="cpu"
        )
        expected = made(torch.tensor([said]), torch.tensor(scores)[None])[0].numpy()
    except (ValueError, RuntimeError, TypeError):
        return
    if config.min_new_tokens is not None:
        config.min_length = prompt + config.min_new_tokens
    assume(np.isfinite(expected.max()))
    try:
        for process in processors(defaults.completed(Generation()), tokenizer, prompt, ends):
            scores = process(scores, said)
    except Gpt2DslError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert any(key in refusal for key in content)
        return
    np.testing.assert_allclose(softmax(scores), softmax(expected), atol=1e-6)


@pytest.mark.parametrize(
    "content",
    [
        {"max_length": 12}, {"max_length": 20}, {"no_repeat_ngram_size": 2},
        {"encoder_no_repeat_ngram_size": 1}, {"sequence_bias": [[[260], 5.0], [[5, 9], -3.0]]},
        {"forced_eos_token_id": 263}, {"forced_eos_token_id": [7, 263], "max_length": 9},
        {"forced_bos_token_id": 9, "begin_suppress_tokens": [11]}, {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2, "forced_eos_token_id": 7},
        {"exponential_decay_length_penalty": [2, 1.6], "eos_token_id": 12},
        {"remove_invalid_values": True, "renormalize_logits": True, "repetition_penalty": 1.4},
        {"num_beams": 2, "encoder_repetition_penalty": 1.4}, {"min_length": 9, "min_new_tokens": 2},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_each_row_of_the_table_gives_the_texts_of_transformers(
    lm: LanguageModel, judge: Any, content: dict[str, Any]
) -> None:
    for prompt in ("the", "the old cat sat"):
        check(lm, judge, {"eos_token_id": 40, **content}, prompt)


@pytest.mark.filterwarnings("ignore")
def test_ragged_prompts_and_streams_go_the_same_way(lm: LanguageModel, judge: Any) -> None:
    (free,) = lm.continuations(["the old"], Generation(max_new_tokens=8))
    content = {"suppress_tokens": list(free.ids[:2]), "no_repeat_ngram_size": 2, "eos_token_id": 4}
    prompts = ["the", "the old cat", "a bird sang"]
    with beside(lm, judge, content):
        together = lm.continuations(prompts, Generation(max_new_tokens=8))
        for prompt, one in zip(prompts, together, strict=True):
            expected = theirs(judge, lm.tokenizer.encode(prompt), max_new_tokens=8)
            assert expected is not None
            assert same([list(one.ids)], expected)
            assert "".join(lm.stream(prompt, max_new_tokens=8)) == one.text
        assert lm.generate(prompts, max_new_tokens=8) == [p.prompt + p.text for p in together]


def test_a_stream_of_a_file_with_beams_is_refused_by_the_file(
    lm: LanguageModel, judge: Any
) -> None:
    with (
        beside(lm, judge, {"num_beams": 2}),
        pytest.raises(Gpt2DslError, match=r"beams = 2 is said at generation_config\.json"),
    ):
        lm.stream("the")


def test_a_stop_string_may_begin_in_the_prompt_unless_generated_text_alone_counts(
    lm: LanguageModel,
) -> None:
    """transformers looks at the whole text; OpenAI's API at what was generated."""
    (free,) = lm.continuations(["the old"], Generation(max_new_tokens=6))
    stop = f"ld{lm.tokenizer.decode(free.ids[:1])}"
    asked = Generation(max_new_tokens=6, stop_strings=[stop])
    for in_prompt, ended in ((True, "stop"), (False, "length")):
        row = lm.row("the old", asked, stops_in_prompt=in_prompt)
        for _ in lm.pieces(row):
            pass
        assert row.ended == ended
