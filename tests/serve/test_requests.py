"""What a request may say, and what becomes of it; transformers is the judge of texts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpt2dsl
from gpt2dsl.serve import documents
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.serve.schema.sampling import StreamOptions
from tests.serve.in_process import Client


@pytest.fixture(scope="module")
def judge(folders: dict[str, Path]) -> Any:
    """Ids → the text that transformers generates after them."""
    from transformers import AutoTokenizer, GPT2LMHeadModel  # noqa: PLC0415

    model = GPT2LMHeadModel.from_pretrained(folders["alphabet"])
    tokenizer = AutoTokenizer.from_pretrained(folders["alphabet"])

    def continued(ids: list[int], count: int) -> str:
        given = torch.tensor([ids])
        more = {"attention_mask": torch.ones_like(given), "pad_token_id": 263}
        out = model.generate(given, max_new_tokens=count, do_sample=False, **more)
        return str(tokenizer.decode(out[0, len(ids) :]))

    return continued


IDS = {
    "the, in three pieces": [83, 71, 68],
    "half a character": [127],
    "an end of text inside": [83, 263, 71],
    "specials only": [264, 263],
    "beyond the tokenizer": [310, 319],
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_ids_are_taken_as_they_are(alphabet: Client, judge: Any, ids: list[int]) -> None:
    answer = alphabet.post(prompt=ids, max_tokens=2).json()
    assert answer["choices"][0]["text"] == judge(ids, 2)
    assert answer["usage"]["prompt_tokens"] == len(ids)
    assert alphabet.streamed(prompt=ids, max_tokens=2) == (judge(ids, 2), "length")
    (whole,) = alphabet.lm.generate([ids], max_new_tokens=2)
    shown = alphabet.lm.tokenizer.decode(ids)
    assert whole == alphabet.choice(prompt=ids, max_tokens=2, echo=True)["text"]
    assert whole == shown + judge(ids, 2)
    assert "".join(alphabet.lm.stream(list(np.array(ids)), max_new_tokens=2)) == judge(ids, 2)


def test_lists_of_ids_are_a_prompt_each(alphabet: Client, judge: Any) -> None:
    prompts = [[83, 71, 68], [127], [83, 71]]
    answer = alphabet.post(prompt=prompts, max_tokens=2).json()
    assert [one["text"] for one in answer["choices"]] == [judge(ids, 2) for ids in prompts]
    assert answer["usage"] == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}


def test_an_empty_prompt_is_one_however_it_is_said(alphabet: Client, judge: Any) -> None:
    empty: tuple[Any, ...] = ("", [], [[]], [""], None)
    for prompt in empty:
        answer = alphabet.post(prompt=prompt, max_tokens=2).json()
        assert [one["text"] for one in answer["choices"]] == [judge([263], 2)]
        assert answer["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([83, 320], "prompt: 320 is no id: there are 320"),
        ([-1], "prompt: -1 is no id: they begin at 0"),
        ([1, True], "prompt: ids are integers, found bool"),
        ([[1.5]], "prompt: ids are integers, found float"),
        ([[1], "a"], 'lists of ids, found [[1], "a"]'),
        ({"a": 1}, "lists of ids, found"),
        ([1] * 64, "the prompt has 64 tokens; with one to generate 63 fit"),
    ],
)
def test_what_is_no_prompt_is_refused(alphabet: Client, prompt: Any, words: str) -> None:
    answer = alphabet.post(prompt=prompt)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_prompt_that_fills_the_model_is_scored_but_not_continued(alphabet: Client) -> None:
    ids = [(7 * i) % 256 for i in range(64)]
    scored = {"prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 1}
    logprobs = alphabet.choice(**scored)["logprobs"]["token_logprobs"]
    assert len(logprobs) == 64
    likelihood = alphabet.lm.loglikelihood(ids[:1], ids[1:])
    assert sum(logprobs[1:]) == pytest.approx(likelihood.logprob, rel=1e-6)
    assert alphabet.choice(prompt=ids, max_tokens=0)["text"] == ""
    refusal = alphabet.post(**scored | {"prompt": [*ids, 1]}).json()["error"]
    assert "the prompt has 65 tokens; 64 fit" in refusal["message"]
    assert refusal["code"] == "context_length_exceeded"


def test_python_refuses_what_are_no_ids(alphabet: Client) -> None:
    wrong: tuple[Any, ...] = (
        [1, True],
        [1.5],
        b"abc",
        bytearray(b"a"),
        [[1]],
        3,
        None,
        {1: 2},
        {1},
    )
    for prompt in wrong:
        with pytest.raises(TypeError, match="expected a text, found"):
            alphabet.lm.generate([prompt], max_new_tokens=1)
    with pytest.raises(gpt2dsl.InputError, match="-1 is no id: there are 320"):
        alphabet.lm.generate([[3, -1]], max_new_tokens=1)


def test_a_stop_never_begins_in_the_prompt(newline: Client) -> None:
    free = newline.choice(prompt="the\n", max_tokens=5)
    assert (free["text"], free["finish_reason"]) == ("\nthe catxy", "length")
    ids = newline.lm.tokenizer.encode("the\n")
    for prompt in ("the\n", ids):
        for stop in (["\n\n"], ["the\n"], ["e\n\nthe"], ["\n\n", "q"]):
            assert newline.choice(prompt=prompt, max_tokens=5, stop=stop) == free
            assert newline.streamed(prompt=prompt, max_tokens=5, stop=stop)[1] == "length"
    echoed = newline.choice(prompt="the\n", max_tokens=5, stop="\n\n", echo=True)
    assert echoed["text"] == "the\n\nthe catxy"


def test_a_stop_within_the_text_still_ends_it(newline: Client) -> None:
    asked = {"prompt": "the\n", "max_tokens": 6, "logprobs": 0}
    free = newline.choice(**asked)["logprobs"]
    for stop, text in (("\n", ""), (" cat", "\nthe"), ("e c", "\nth"), ("x", "\nthe cat")):
        choice = newline.choice(**asked, stop=stop)
        assert (choice["text"], choice["finish_reason"]) == (text, "stop")
        assert newline.streamed(prompt="the\n", max_tokens=6, stop=stop) == (text, "stop")
        offsets = choice["logprobs"]["text_offset"]
        assert all(offset < len(text) for offset in offsets)
        assert choice["logprobs"]["tokens"] == free["tokens"][: len(offsets)]


def test_special_tokens_in_a_text_are_one_text_everywhere(alphabet: Client, judge: Any) -> None:
    prompt = "t<|endoftext|>h"
    want = judge([83, 263, 71], 6)
    assert "<|user|>" in want
    assert alphabet.choice(prompt=prompt, max_tokens=6)["text"] == want
    assert alphabet.streamed(prompt=prompt, max_tokens=6)[0] == want
    assert alphabet.lm.generate([prompt], max_new_tokens=6) == [prompt + want]
    assert "".join(alphabet.lm.stream(prompt, max_new_tokens=6)) == want


KEYS = {field.alias or name for name, field in CompletionRequest.model_fields.items()} - {"model"}


@pytest.mark.parametrize("key", sorted(KEYS - {"prompt"}))
def test_null_is_as_absent(alphabet: Client, key: str) -> None:
    body = {"prompt": "t", "max_tokens": 2, "seed": 1, "temperature": 0.5}
    absent = {name: value for name, value in body.items() if name != key}
    found = CompletionRequest.model_validate({"model": "org/m", **body, key: None})
    assert found == CompletionRequest.model_validate({"model": "org/m", **absent})
    assert alphabet.post(**body | {key: None}).status_code == 200


def test_null_is_as_absent_within_stream_options(alphabet: Client) -> None:
    nulls = dict.fromkeys(StreamOptions.model_fields)
    asked = {"prompt": "t", "max_tokens": 2, "stream_options": nulls}
    assert alphabet.streamed(**asked)[1] == "length"


@pytest.mark.parametrize(
    "neutral",
    [
        {"user": "me"}, {"metadata": {"a": "b"}}, {"store": False}, {"service_tier": "auto"},
        {"stream_options": {"include_obfuscation": False}}, {"prompt_cache_key": "a"},
        {"best_of": 1}, {"suffix": ""}, {"presence_penalty": 0}, {"frequency_penalty": 0.0},
        {"logit_bias": {}}, {"logit_bias": {"65": 0}}, {"stop": []}, {"echo": False}, {"n": 1.0},
    ],
)  # fmt: skip
def test_what_has_no_effect_is_accepted(alphabet: Client, neutral: dict[str, Any]) -> None:
    plain = alphabet.choice(prompt="the", max_tokens=3)
    assert alphabet.choice(prompt="the", max_tokens=3, **neutral) == plain


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"best_of": 2, "stream": True}, "best_of: which texts are best is known at their end"),
        ({"best_of": 2, "n": 3}, "best_of: 2 texts have no 3 best ones (n)"),
        ({"suffix": "x"}, "suffix: not supported here"),
        ({"logit_bias": {"65": 101}}, "logit_bias: 65: expected a number from -100 to 100"),
        ({"logit_bias": {"320": 1}}, "logit_bias: 320 is no id: there are 320"),
        ({"logit_bias": {"the": 1}}, "logit_bias: 'the' is no id"),
        ({"logit_bias": {"1": True}}, "logit_bias: 1: expected a number"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias: 1025 ids are more than"),
        ({str(i): 1 for i in range(200)}, "keys are more than 100"),
        ({"frequency_penalty": 2.1}, "frequency_penalty: Input should be less than or equal to 2"),
        ({"presence_penalty": "1"}, "presence_penalty: Input should be a valid number"),
        ({"n": True}, "n: Input should be a valid integer"),
        ({"n": 1.5}, "n: Input should be a valid integer"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": 1}, "echo"),
        ({"stream_options": {"usage": True}}, "stream_options.usage"),
        ({"stop": [None]}, "stop"),
        ({"ignore_eos": True}, "ignore_eos: unknown key"),
        ({"max_token": 3}, "max_token: unknown key; did you mean max_tokens?"),
        (
            {"stop": ["a", "b", "c", "d", "e"]},
            "stop: 5 texts are more than 4 (--max-stops, task.max_stops in a recipe)",
        ),
        ({"stop": "a" * 257}, "stop: a text of 257 characters is longer than 256"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(
    alphabet: Client, body: dict[str, Any], words: str
) -> None:
    answer = alphabet.post(**{"prompt": "the", **body})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_model_is_told_under_its_name_and_another_is_not_there(alphabet: Client) -> None:
    (listed,) = alphabet.http.get("/v1/models").json()["data"]
    assert alphabet.http.get("/v1/models/org/m").json() == listed
    other = alphabet.http.get("/v1/models/gpt-4")
    assert other.status_code == 404
    assert other.json()["error"]["code"] == "model_not_found"
    assert other.json()["error"]["type"] == "invalid_request_error"


def test_an_event_is_json_whatever_its_numbers_are() -> None:
    line = documents.event({"choices": [{"logprobs": {"token_logprobs": [-math.inf, -1.5]}}]})
    document = json.loads(line.removeprefix("data: "), parse_constant=pytest.fail)
    assert document["choices"][0]["logprobs"]["token_logprobs"] == [None, -1.5]
