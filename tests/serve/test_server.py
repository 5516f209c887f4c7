"""The published OpenAI client against a real process of ``gpt2dsl serve``."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

import gpt2dsl
from gpt2dsl.engine.language_model import LanguageModel
from tests.serve.conftest import LONG, Server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def lm(weights: Path) -> LanguageModel:
    return gpt2dsl.load(str(weights))


def complete(client: openai.OpenAI, prompt: Any, **more: Any) -> Any:
    return client.completions.create(model="tiny", prompt=prompt, **more)


def test_a_completion_is_what_the_library_generates(
    client: openai.OpenAI, lm: LanguageModel
) -> None:
    found = complete(client, "the old", max_tokens=9, temperature=0)
    (expected,) = lm.generate(["the old"], max_new_tokens=9)
    (choice,) = found.choices
    assert "the old" + choice.text == expected
    assert choice.finish_reason == "length"
    assert found.usage.completion_tokens == 9
    assert found.usage.prompt_tokens == len(lm.tokenizer.encode("the old"))
    assert [one.id for one in client.models.list()] == ["tiny"]


def test_a_stream_joins_to_the_same_text(client: openai.OpenAI) -> None:
    whole = complete(client, "a bird", max_tokens=30, seed=4, top_p=0.9)
    chunks = list(
        complete(
            client, "a bird", max_tokens=30, seed=4, top_p=0.9, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    pieces = [one.choices[0].text for one in chunks if one.choices]
    assert len(pieces) > 5
    assert "".join(pieces) == whole.choices[0].text
    assert chunks[-1].usage.completion_tokens == 30
    assert chunks[-2].choices[0].finish_reason == "length"


def test_several_prompts_copies_ids_echo_and_stops(
    client: openai.OpenAI, lm: LanguageModel
) -> None:
    found = complete(client, ["the", "a"], n=2, max_tokens=5, seed=1)
    assert [one.index for one in found.choices] == [0, 1, 2, 3]
    assert len({one.text for one in found.choices}) > 1
    ids = lm.tokenizer.encode("the old")
    by_ids = complete(client, ids, max_tokens=6, temperature=0, echo=True).choices[0]
    assert by_ids.text == lm.generate(["the old"], max_new_tokens=6)[0]
    free = complete(client, "the old", max_tokens=20, temperature=0).choices[0].text
    (stop,) = re.findall("[a-z.]", free[6:])[:1]
    stopped = complete(client, "the old", max_tokens=20, temperature=0, stop=[stop])
    assert stopped.choices[0].text == free[: free.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"


def test_log_probabilities_come_in_openais_form(client: openai.OpenAI) -> None:
    (choice,) = complete(client, "the", max_tokens=4, temperature=0, logprobs=2).choices
    found = choice.logprobs
    whole = [one for one in found.tokens if not one.startswith("bytes:")]
    assert all(one in choice.text for one in whole)
    assert [len(one) for one in found.top_logprobs] == [2] * 4
    best = [max(one.values()) for one in found.top_logprobs]
    assert best == pytest.approx(found.token_logprobs)
    assert found.text_offset[0] == 0


def test_fifty_requests_at_once_are_answered_each_with_its_own_text(
    client: openai.OpenAI, lm: LanguageModel
) -> None:
    prompts = [f"the old cat {'sat ' * (i % 5)}{'ran ' * (i % 7)}" for i in range(50)]
    with ThreadPoolExecutor(50) as pool:
        found = list(
            pool.map(lambda one: complete(client, one, max_tokens=8, temperature=0), prompts)
        )
    expected = lm.generate(prompts, max_new_tokens=8)
    assert [p + one.choices[0].text for p, one in zip(prompts, found, strict=True)] == expected


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_leaves_frees_its_place(
    client: openai.OpenAI, server: Server, streams: bool
) -> None:
    server.wait_until_idle(60)
    settings: Any = {"max_tokens": 2000, "temperature": 0, "extra_body": {"min_tokens": 2000}}
    if streams:
        stream = complete(client, "the", stream=True, **settings)
        next(iter(stream))
        assert server.health()["running"] == 1
        stream.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            complete(client.with_options(timeout=0.3), "the", **settings)
    left = time.monotonic()
    server.wait_until_idle(60)
    # A whole text takes more steps than the server can have made since the client left.
    assert time.monotonic() - left < 5


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"prompt": "cat " * 3000}, 400, "2047 fit"),
        ({"max_tokens": -5}, 400, "max_tokens: Input should be greater than or equal to 0"),
        ({"temperature": -1}, 400, "temperature"),
        ({"top_p": 2}, 400, "top_p"),
        ({"extra_body": {"max_token": 3}}, 400, "max_token: unknown key"),
        ({"presence_penalty": -2.5}, 400, "presence_penalty: Input should be greater than"),
        ({"stop": [""]}, 400, "stop: a text is empty"),
        ({"n": 100, "prompt": ["a", "b"]}, 400, "200 texts are more than 144"),
        ({"suffix": "b"}, 400, "suffix: not supported here"),
        ({"prompt": "a" * 200_000}, 400, "200000 characters, more than 2048 tokens hold"),
        ({"prompt": "a" * 2_000_000}, 413, "the body has more than 1048576 bytes"),
        ({"prompt": [999]}, 400, "999 is no id: there are 301"),
        ({"model": "other"}, 404, "no model 'other' here; 'tiny' is"),
    ],
)
def test_what_can_not_be_done_is_refused_with_a_reason(
    client: openai.OpenAI, body: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=words) as caught:
        client.completions.create(**{"model": "tiny", "prompt": "the", **body})
    assert caught.value.status_code == status


@pytest.mark.parametrize("key", ["temperature", "top_p"])
def test_zero_means_the_best_token(client: openai.OpenAI, lm: LanguageModel, key: str) -> None:
    found = complete(client, "the", max_tokens=5, **{key: 0})
    assert "the" + found.choices[0].text == lm.generate(["the"], max_new_tokens=5)[0]


def test_an_empty_prompt_begins_at_an_end_of_text_and_text_ends_with_the_positions(
    client: openai.OpenAI, lm: LanguageModel
) -> None:
    found = complete(client, "", max_tokens=4, temperature=0)
    assert found.choices[0].text == lm.generate([""], max_new_tokens=4)[0]
    prompt = [40] * (LONG.positions - 2)
    last = complete(client, prompt, max_tokens=50, temperature=0)
    assert last.choices[0].finish_reason == "length"
    assert last.usage.completion_tokens <= 2


def test_sigterm_finishes_what_runs_and_a_full_queue_refuses(weights: Path) -> None:
    own = Server(weights, "--batch", "1", "--queue", "1", "--grace", "250")
    client = openai.OpenAI(base_url=own.url, api_key="none", max_retries=0)
    found: list[Any] = []

    def run() -> None:
        more: Any = {"extra_body": {"min_tokens": 600}}
        found.append(complete(client, "the", max_tokens=600, temperature=0, **more))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for count, thread in enumerate(threads):
        thread.start()
        while sum(own.health()[key] for key in ("running", "waiting")) != count + 1:
            time.sleep(0.01)
    with pytest.raises(openai.InternalServerError, match="waiting already"):
        complete(client, "a")
    assert own.stop(240) == 0
    for thread in threads:
        thread.join()
    assert [one.usage.completion_tokens for one in found] == [600, 600]
    assert "all requests that were accepted are answered" in "".join(own.lines)


def test_a_port_that_is_taken_is_one_line_before_anything_is_loaded(
    server: Server, weights: Path
) -> None:
    port = server.url.split(":")[2].partition("/")[0]
    words = [sys.executable, "-m", "gpt2dsl", "serve", str(weights), "--port", port]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"127.0.0.1:{port}: can't be listened on: Address already in use; --port takes another, "
        "--port 0 a free one [G2-535]\n"
    )


def test_an_unknown_path_is_refused_in_openais_form(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="POST /v1/embeddings: no such path here"):
        client.embeddings.create(model="tiny", input="a")
