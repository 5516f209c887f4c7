"""/openapi.json: schemathesis judges it in tests/clients; here is what is seen without it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl.serve.openapi import numbers_to
from tests.serve.in_process import Client

PART = {"type": "text", "text": "a"}


@pytest.fixture(scope="module")
def templated(folders: dict[str, Path]) -> Iterator[Client]:
    own = Client(folders["alphabet"], template="{% for m in messages %}{{ m.content }}{% endfor %}")
    yield own
    own.close()


@pytest.fixture(scope="module")
def described(alphabet: Client) -> Any:
    return alphabet.http.get("/openapi.json").json()


def test_every_path_is_described_under_an_id_of_its_own(described: Any) -> None:
    operations = [one for path in described["paths"].values() for one in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids)) == 11
    for operation in operations:
        assert {"200", "400", "401", "403", "500"} <= operation["responses"].keys()
    posted = [path["post"] for path in described["paths"].values() if "post" in path]
    assert len(posted) == 4
    for operation in posted:
        assert {"404", "408", "413", "415", "503"} <= operation["responses"].keys()
        assert operation["requestBody"]["content"].keys() == {"application/json"}


def test_every_reference_leads_somewhere(described: Any) -> None:
    schemas = described["components"]["schemas"]
    named = set(re.findall(r"'#/components/schemas/(\w+)'", str(described)))
    assert named <= schemas.keys()
    assert {"CompletionRequest", "ChatRequest", "ErrorDocument", "Completion", "Chat"} <= named


def test_events_of_streams_are_described_each(described: Any) -> None:
    for path, kind in (("completions", "Completion"), ("chat/completions", "ChatChunk")):
        answer = described["paths"][f"/v1/{path}"]["post"]["responses"]["200"]["content"]
        assert answer.keys() == {"application/json", "text/event-stream"}
        data = answer["text/event-stream"]["itemSchema"]["properties"]["data"]
        end, document = data["anyOf"]
        assert end == {"const": "[DONE]"}
        kinds = [one["$ref"].rpartition("/")[2] for one in document["contentSchema"]["anyOf"]]
        assert kinds == [kind, "ErrorDocument"]


def test_links_lead_from_an_answer_to_what_can_be_asked_with_it(described: Any) -> None:
    operations = [one for path in described["paths"].values() for one in path.values()]
    ids = {operation["operationId"] for operation in operations}
    links = {
        (operation["operationId"], link["operationId"])
        for operation in operations
        for link in operation["responses"]["200"].get("links", {}).values()
    }
    assert {("tokenize", "detokenize"), ("detokenize", "tokenize")} <= links
    assert {("list_models", "retrieve_model"), ("retrieve_model", "create_completion")} <= links
    assert {target for _, target in links} <= ids


def test_the_models_that_there_are_are_told(described: Any) -> None:
    (name,) = described["paths"]["/v1/models/{model}"]["get"]["parameters"]
    assert name["schema"] == {"enum": ["org/m"]}
    for kind in ("CompletionRequest", "ChatRequest", "TokenizeRequest", "DetokenizeRequest"):
        of_kind = described["components"]["schemas"][kind]["properties"]["model"]
        assert of_kind == {"enum": ["org/m", None]}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("chat", {"top_logprobs": 2}, 400),
        ("chat", {"top_logprobs": 0}, 200),
        ("chat", {"top_logprobs": 2, "logprobs": None}, 400),
        ("chat", {"top_logprobs": 2, "logprobs": True}, 200),
        ("chat", {"continue_final_message": True, "add_generation_prompt": True}, 400),
        ("chat", {"continue_final_message": True, "add_generation_prompt": None}, 200),
        ("chat", {"continue_final_message": None, "add_generation_prompt": True}, 200),
        ("chat", {"unknown": None, "": None}, 200),
        ("chat", {"unknown": False}, 400),
        ("chat", {"": ""}, 400),
        ("chat", {str(number): None for number in range(100)}, 400),
        ("chat", {"stream_options": {"a": None}}, 200),
        ("chat", {"stream_options": {"a": 1}}, 400),
        ("chat", {"messages": [{"role": "a", "b": None}]}, 200),
        ("chat", {"messages": [{"role": "a", "b": 1}]}, 400),
        ("chat", {"messages": [{"role": "a", "content": [PART | {"cache": None}]}]}, 200),
        ("chat", {"messages": [{"role": "a", "content": [PART | {"cache": 1}]}]}, 400),
        *(
            (path, {key: 2**63 - 1 + over}, 400 if over else 200)
            for path, key in [
                ("chat", "max_tokens"),
                ("chat", "max_completion_tokens"),
                ("chat", "top_k"),
                ("chat", "no_repeat_ngram_size"),
                ("completions", "max_tokens"),
            ]
            for over in (0, 1)
        ),
        ("completions", {"min_tokens": 2**63, "max_tokens": 2**63}, 400),
        ("completions", {"min_tokens": 2**63 - 1, "max_tokens": 2**63 - 1}, 200),
        ("completions", {"seed": 2**64 + 1}, 200),
        ("completions", {"messages": None}, 200),
        ("completions", {"messages": []}, 400),
        ("tokenize", {"prompt": "a", "messages": None}, 200),
        ("tokenize", {"prompt": None}, 200),
        ("tokenize", {"prompt": "a"}, 400),
    ],
)
def test_bodies_are_taken_that_fit_what_is_described(
    templated: Client, path: str, body: dict[str, Any], status: int
) -> None:
    """schemathesis, in tests/clients, makes bodies of both kinds from the schemas themselves."""
    paths = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
    needed: Any = {} if path == "completions" else {"messages": [{"role": "user", "content": "a"}]}
    short = {} if path == "tokenize" else {"max_tokens": 1}
    answer = templated.http.post(paths.get(path, "/tokenize"), json=short | needed | body)
    assert answer.status_code == status, answer.text


def test_limits_of_this_server_and_nulls_are_told(described: Any, alphabet: Client) -> None:
    schema = described["components"]["schemas"]["CompletionRequest"]
    keys = schema["properties"]
    assert schema["additionalProperties"] == {"type": "null"}
    assert all({"type": "null"} in key["anyOf"] for key in keys.values() if "anyOf" in key)
    assert keys["n"]["anyOf"][0]["maximum"] == 12
    assert keys["stop"]["anyOf"][0]["anyOf"][1]["maxItems"] == 4
    last = alphabet.lm.geometry.vocab - 1
    assert described["components"]["schemas"]["TokenId"]["maximum"] == last


@pytest.mark.parametrize("last", [0, 7, 9, 10, 99, 100, 319, 4095, 50256])
def test_numbers_up_to_one_are_matched_and_no_others(last: int) -> None:
    matches = re.compile(f"^({numbers_to(last)})$").match
    for number in {*range(min(last + 200, 5000)), last - 1, last, last + 1, last * 10} - {-1}:
        assert bool(matches(str(number))) == (number <= last)
    assert not matches("01")
