"""Who may ask: hosts, keys and pages; what is no request is refused in OpenAI's form."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gpt2dsl.serve.app import app
from gpt2dsl.serve.limits import Limits
from gpt2dsl.serve.service import Service
from gpt2dsl.serve.worker import GenerationWorker
from tests.serve.in_process import Never

JSON = {"Content-Type": "application/json"}


def service(**limits: int) -> Service:
    """A service whose model never comes: nothing here gets as far as that."""
    return Service(Never(), "m", Limits(**{"texts": 4, **limits}))


def client(**settings: Any) -> TestClient:
    return TestClient(app(service(), **settings), "http://localhost")


def error(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "[::1]",
        "192.168.7.1", "a.localhost", "localhost.", "gpt.example", "gpt.example:1",
    ],
)  # fmt: skip
def test_numbers_localhost_and_allowed_names_are_served(host: str) -> None:
    asked = client(hosts=["gpt.example"])
    assert asked.get("/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
        "[::1].evil.example", "evillocalhost", "1.2.3", "0x7f.1.evil", "gpt.example.evil",
    ],
)  # fmt: skip
def test_other_names_are_refused_so_that_no_page_can_rebind_its_own(host: str) -> None:
    asked = client(hosts=["gpt.example"])
    for path in ("/health/live", "/v1/models", "/nowhere"):
        answer = asked.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert "--allowed-host" in error(answer)["message"]
    assert client(hosts=["*"]).get("/health/live", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Bearer ", "Basic sesame", "sesame", "Bearer sesam\xe9", ""]
)
def test_without_the_key_only_health_is_told(given: str | None) -> None:
    asked = client(key="sesame")
    headers = {b"Authorization": given.encode("latin-1")} if given is not None else {}
    answer = asked.post("/v1/completions", json={}, headers=headers)
    assert answer.status_code == 401
    assert error(answer)["code"] == "invalid_api_key"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/metrics", "/openapi.json", "/version", "/v1/models"):
        assert asked.get(path, headers=headers).status_code == 401
    for path in ("/health", "/health/live", "/health/ready"):
        assert asked.get(path, headers=headers).status_code != 401


def test_the_key_opens_and_the_scheme_has_no_case() -> None:
    asked = client(key="sesame")
    for given in ("Bearer sesame", "bearer sesame", "BEARER  sesame "):
        assert asked.get("/version", headers={"Authorization": given}).status_code == 200


def test_pages_read_answers_only_from_origins_that_may() -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Origin": "https://page.example"}
    shut, open_ = client(), client(origins=["https://page.example"], key="sesame")
    assert (
        "access-control-allow-origin"
        not in shut.options("/v1/completions", headers=preflight).headers
    )
    answer = open_.options("/v1/completions", headers=preflight)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    refused = open_.get("/v1/models", headers={"Origin": "https://page.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    other = open_.get("/version", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/v1/completions", 405, "POST"),
        ("DELETE", "/v1/chat/completions", 405, "POST"),
        ("POST", "/v1/models", 405, "GET"),
        ("PUT", "/health", 405, "GET"),
        ("POST", "/metrics", 405, "GET"),
        ("GET", "/v1/completion", 404, None),
        ("POST", "/v1/completions/", 404, None),
        ("POST", "/", 405, "GET, HEAD"),
        ("GET", "/docs", 404, None),
    ],
)
def test_wrong_paths_and_methods_are_told_in_openais_form(
    method: str, path: str, status: int, allowed: str | None
) -> None:
    answer = client().request(method, path)
    assert answer.status_code == status
    assert error(answer)["type"] == "invalid_request_error"
    assert answer.headers.get("Allow") == allowed


BODIES: dict[str, tuple[bytes, str]] = {
    "bad UTF-8": (b'{"prompt": "\xff\xfe"}', "the body is no JSON: invalid unicode code point"),
    "half a surrogate": (b'{"prompt": "\\ud800"}', "the body is no JSON"),
    "deep": (b"[" * 1000 + b"]" * 1000, "recursion limit exceeded"),
    "deep in a key": (b'{"user": ' + b'{"a":' * 1000 + b"1" + b"}" * 1001, "recursion limit"),
    "NaN": (b'{"temperature": NaN}', "the body is no JSON"),
    "infinite": (b'{"temperature": 1e999}', "temperature: Input should be"),
    "a long number": (b'{"seed": ' + b"1" * 5000 + b"}", "number out of range"),
    "nothing": (b"", "EOF while parsing"),
    "an array": (b"[]", "the body is no JSON object but an array"),
    "null": (b"null", "the body is no JSON object but null"),
    "a text": (b'"a"', "the body is no JSON object but a string"),
    "two documents": (b"{}{}", "trailing characters"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
def test_what_is_no_body_is_refused_in_openais_form(alphabet: Any, path: str, name: str) -> None:
    raw, words = BODIES[name]
    answer = alphabet.http.post(path, content=raw, headers=JSON)
    assert answer.status_code == 400
    assert words in error(answer)["message"] or name == "infinite"


@pytest.mark.parametrize(
    ("headers", "raw", "status", "words"),
    [
        ({}, b"{}", 415, "application/json"),
        ({"Content-Type": "text/plain"}, b"{}", 415, "application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=1", 415, "application/json"),
        (
            JSON | {"Content-Encoding": "gzip"},
            gzip.compress(b"{}", mtime=0),
            415,
            "'gzip' is not read",
        ),
        (JSON, b'{"prompt": "' + b"a" * (1 << 20) + b'"}', 413, "more than 1048576 bytes"),
    ],
)
def test_other_kinds_of_bodies_and_large_ones_are_refused(
    alphabet: Any, headers: dict[str, str], raw: bytes, status: int, words: str
) -> None:
    answer = alphabet.http.post("/v1/completions", content=raw, headers=headers)
    assert answer.status_code == status
    assert words in error(answer)["message"]


def test_json_with_a_charset_is_json(alphabet: Any) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    raw = json.dumps({"max_tokens": 1}).encode()
    assert alphabet.http.post("/v1/completions", content=raw, headers=headers).status_code == 200


def test_a_large_body_without_a_length_is_refused_before_it_is_whole(alphabet: Any) -> None:
    taken = 0

    def pieces() -> Any:
        nonlocal taken
        for _ in range(64):
            taken += 1
            yield b" " * (1 << 18)

    answer = alphabet.http.post("/v1/completions", content=pieces(), headers=JSON)
    assert answer.status_code == 413
    assert error(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ["a"] * 100_000},
        {"prompt": ["a"] * 20, "n": 128},
        {"prompt": "a", "n": 1, "best_of": 128},
        {"prompt": [[1]] * 13},
    ],
    ids=["prompts", "prompts and n", "best_of", "lists"],
)
def test_more_texts_than_there_is_room_for_are_refused_before_any_work(
    alphabet: Any, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a prompt was looked at")

    monkeypatch.setattr(alphabet.lm, "row", never)
    answer = alphabet.post(**body)
    assert answer.status_code == 400
    assert "texts are more than 12, which fit here at once" in error(answer)["message"]


def test_while_the_model_loads_only_health_answers() -> None:
    asked = client()
    for path, status in (("/health", 503), ("/health/ready", 503), ("/health/live", 200)):
        answer = asked.get(path)
        assert answer.status_code == status
        assert answer.json()["status"] == "loading"
    for answer in (
        asked.get("/v1/models"),
        asked.post("/v1/completions", json={}),
        asked.post("/tokenize", json={"prompt": "a"}),
    ):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert error(answer)["code"] == "loading"


def test_a_worker_that_died_is_down() -> None:
    dead = GenerationWorker(lambda: None, batch=1, waiting=1)  # type: ignore[arg-type,return-value]
    asked = TestClient(app(Service(dead, "m", Limits(texts=1))), "http://localhost")
    assert asked.get("/health").json()["status"] == "down"
    assert asked.post("/v1/completions", json={}).status_code == 503
