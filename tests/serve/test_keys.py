"""The tables of docs/serve.md: every key of OpenAI's is right or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params as completion_keys
from openai.types.chat import completion_create_params as chat_keys

from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.schema.base import parsed
from gpt2dsl.serve.schema.chat import ChatRequest
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.serve.schema.sampling import Sampling
from tests.serve.in_process import Client

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
KINDS: dict[str, type[Sampling]] = {"completions": CompletionRequest, "chat": ChatRequest}
MESSAGES = [{"role": "user", "content": "the"}]
NEEDED: dict[str, dict[str, Any]] = {"completions": {}, "chat": {"messages": MESSAGES}}
Row = tuple[str, str, str, Any]
"""Key, path, fate, example."""


def rows() -> Iterator[Row]:
    cells = re.findall(
        r"^\| `(\w+)` \| ([a-z -]+) \| ([a-z -]+) \| `(.+?)` \|",
        PAGE.read_text("utf-8"),
        re.MULTILINE,
    )
    for key, *fates, example in cells:
        for path, fate in zip(KINDS, fates, strict=True):
            value = True if (key, path) == ("logprobs", "chat") else json.loads(example)
            if fate != "-":
                yield key, path, fate, value


ROWS = list(rows())


def of(fate: str) -> pytest.MarkDecorator:
    chosen = [(key, path, value) for key, path, its_fate, value in ROWS if its_fate == fate]
    names = [f"{path} {key}" for key, path, _ in chosen]
    return pytest.mark.parametrize(("key", "path", "value"), chosen, ids=names)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("completions", completion_keys.CompletionCreateParamsNonStreaming),
        ("chat", chat_keys.CompletionCreateParamsNonStreaming),
    ],
)
def test_the_tables_have_every_key_of_openais_client_and_of_the_schema(
    path: str, keys: Any
) -> None:
    told = {key for key, of_path, *_ in ROWS if of_path == path}
    assert get_type_hints(keys).keys() <= told
    fields = KINDS[path].model_fields
    assert told == {field.alias or name for name, field in fields.items()}
    assert {fate for *_, fate, _ in ROWS} == {"right", "no effect", "refused"}


@of("refused")
def test_what_is_not_built_here_is_refused_by_its_name(key: str, path: str, value: Any) -> None:
    with pytest.raises(ApiError, match=f"^{key}: not supported here$") as caught:
        parsed([KINDS[path]], json.dumps(NEEDED[path] | {key: value}).encode())
    assert (caught.value.status, caught.value.param) == (400, key)


@pytest.fixture(scope="module")
def client(folders: dict[str, Path]) -> Iterator[Client]:
    template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}: a{% endif %}"
    )
    own = Client(folders["alphabet"], template=template)
    yield own
    own.close()


def ask(client: Client, path: str, body: dict[str, Any]) -> Any:
    """What is told, without what differs between any two answers."""
    where = "/v1/completions" if path == "completions" else "/v1/chat/completions"
    base = {"max_tokens": 4, "temperature": 0} | NEEDED[path]
    answer = client.http.post(where, json=base | body)
    assert answer.status_code == 200, answer.text
    return re.sub(r'"(id|created)": ("[^"]*"|\d+)', "", answer.text)


DRAWS = {"temperature": 1.3, "seed": 5, "max_tokens": 8}
BESIDE: dict[str, dict[str, Any]] = {
    "seed": DRAWS, "temperature": DRAWS, "top_p": DRAWS, "top_k": DRAWS, "min_p": DRAWS,
    "typical_p": DRAWS, "best_of": {"n": 2} | DRAWS, "n": DRAWS,
    "frequency_penalty": {"temperature": 0, "max_tokens": 30},
    "presence_penalty": {"temperature": 0, "max_tokens": 30},
    "no_repeat_ngram_size": {"temperature": 0, "max_tokens": 30},
    "repetition_penalty": {"temperature": 0, "max_tokens": 30},
    "min_tokens": {"max_tokens": 30, "logit_bias": {"263": 100}},
    "echo": {"prompt": "the"},
    "top_logprobs": {"logprobs": True},
    "stream_options": {"stream": True},
    "continue_final_message": {"add_generation_prompt": None},
}  # fmt: skip
"""What else is asked for, where a key needs it to change something."""


@of("right")
def test_what_is_right_changes_the_answer(client: Client, key: str, path: str, value: Any) -> None:
    beside = BESIDE.get(key, {})
    plain, asked = (ask(client, path, beside | more) for more in ({}, {key: value}))
    assert (plain == asked) == (key == "model")


@of("no effect")
def test_what_has_no_effect_changes_nothing(
    client: Client, key: str, path: str, value: Any
) -> None:
    assert ask(client, path, {key: value}) == ask(client, path, {})


def test_a_prompt_in_a_list_draws_what_it_draws_alone(client: Client) -> None:
    def texts(prompts: Any, **more: Any) -> list[str]:
        body = {"prompt": prompts, "max_tokens": 6, "temperature": 1} | more
        return [
            one["text"] for one in client.http.post("/v1/completions", json=body).json()["choices"]
        ]

    alone = [texts(prompt, seed=3, n=2) for prompt in ("the", "a")]
    assert texts(["the", "a"], seed=3, n=2) == [*alone[0], *alone[1]]
    assert len(set(texts(["the"] * 4))) > 1


def test_the_likeliest_candidates_are_told(client: Client) -> None:
    body = {"prompt": "the", "max_tokens": 4, "seed": 1, "temperature": 1.5, "logprobs": 0}
    every = client.http.post("/v1/completions", json=body | {"n": 4}).json()["choices"]
    best = client.http.post("/v1/completions", json=body | {"n": 2, "best_of": 4}).json()
    means = {one["text"]: sum(one["logprobs"]["token_logprobs"]) for one in every}
    ranked = sorted(means, key=lambda text: -means[text])[:2]
    assert [one["text"] for one in best["choices"]] == ranked
    assert best["usage"]["completion_tokens"] >= 4


def test_an_echoed_prompt_is_scored_like_the_library_does(client: Client) -> None:
    body = {"prompt": "the cat", "echo": True, "logprobs": 1, "temperature": 0}
    ids = client.lm.tokenizer.encode("the cat")
    whole = client.http.post("/v1/completions", json=body | {"max_tokens": 2}).json()
    alone = client.http.post("/v1/completions", json=body | {"max_tokens": 0}).json()
    (choice,), (prompt,) = whole["choices"], alone["choices"]
    assert prompt["text"] == "the cat"
    assert alone["usage"]["completion_tokens"] == 0
    scores, first = choice["logprobs"], prompt["logprobs"]
    for key, values in first.items():
        assert scores[key][: len(ids)] == pytest.approx(values) if key != "top_logprobs" else True
    assert first["token_logprobs"][0] is None
    expected = client.lm.loglikelihood([ids[:1]], [ids[1:]])[0].logprob
    assert sum(first["token_logprobs"][1:]) == pytest.approx(expected, abs=1e-5)
    assert choice["text"][scores["text_offset"][len(ids)] :].startswith(scores["tokens"][len(ids)])
    streamed = client.http.post("/v1/completions", json=body | {"max_tokens": 2, "stream": True})
    events = [json.loads(line[6:]) for line in streamed.text.split("\n\n")[:-2]]
    told = [event["choices"][0]["logprobs"] for event in events]
    for key in ("tokens", "token_logprobs", "text_offset"):
        assert [value for one in told for value in one[key]] == scores[key]
