"""What comes over a socket: in whatever pieces, and no more of it than may be."""

from __future__ import annotations

import json
import re
import socket

import pytest

from gpt2dsl.serve.connection import HEAD, MEAN_CHUNK, MOST_CHUNKS, PIECE
from tests.serve.conftest import Server

ASKED = b'{"prompt": "the", "max_tokens": 1, "temperature": 0}'
POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /version HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


def told(server: Server, request: bytes) -> bytes:
    """All that a server says to a request."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as caller:
        caller.sendall(request)
        return b"".join(iter(lambda: caller.recv(1 << 16), b""))


def chunked(body: bytes, size: int) -> bytes:
    """A body as chunks of a size."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, PIECE - 1, PIECE, 1 << 18])
def test_a_body_is_the_same_in_chunks_of_any_size(server: Server, size: int) -> None:
    body = ASKED + b" " * (5 * PIECE)
    head, answer = told(server, CHUNKED + chunked(body, size)).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 ")
    plain = told(server, POST + b"Connection: close\r\nContent-Length: 52\r\n\r\n" + ASKED)
    texts = [json.loads(one)["choices"] for one in (answer, plain.split(b"\r\n\r\n", 1)[1])]
    assert len(ASKED) == 52
    assert texts[0] == texts[1]


def test_a_body_in_tiny_chunks_is_refused(server: Server) -> None:
    def answered(count: int, size: int) -> bytes:
        piece = b"%x\r\n%s\r\n" % (size, b" " * size)
        return told(server, CHUNKED + piece * count + chunked(ASKED, len(ASKED)))

    assert answered(MOST_CHUNKS - 1, 1).startswith(b"HTTP/1.1 200 ")
    head, body = answered(MOST_CHUNKS, 1).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"{MEAN_CHUNK} bytes" in json.loads(body)["error"]["message"]


def test_requests_that_come_at_once_are_answered_one_after_another(server: Server) -> None:
    answers = told(server, (GET + b"\r\n") * 500 + GET + b"Connection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200 OK") == 501


@pytest.mark.parametrize(
    "more", [b"a: %s\r\n" % (b"b" * 2 * HEAD), b"a:\r\n" * HEAD], ids=["long", "many"]
)
def test_a_head_that_is_too_long_is_refused_in_openais_form(server: Server, more: bytes) -> None:
    head, body = told(server, GET + more + b"\r\n").split(b"\r\n\r\n", 1)
    assert re.match(rb"HTTP/1.1 4\d\d ", head)
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    fits = b"a: %s\r\nConnection: close\r\n" % (b"b" * (HEAD - 200))
    assert told(server, GET + fits + b"\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "head", [POST + b"Expect: 100-continue\r\n", POST, GET], ids=["expects", "posts", "gets"]
)
def test_a_body_that_is_none_is_refused_whatever_the_application_would_say(
    server: Server, head: bytes
) -> None:
    answer = told(server, head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
    assert error["type"] == "invalid_request_error"
    assert server.health()["status"] == "ok"
