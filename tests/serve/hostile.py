"""Requests that a server must outlive: bodies of every wrong kind, and HTTP that is none."""

from __future__ import annotations

import json
import socket
from typing import Any

from hypothesis import strategies as st

JSON_HEAD = b"Content-Type: application/json\r\n"


def posted(body: bytes, *, head: bytes = JSON_HEAD, path: bytes = b"/v1/completions") -> bytes:
    """A request as bytes."""
    length = str(len(body)).encode()
    start = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n"
    return start + head + b"Content-Length: " + length + b"\r\n\r\n" + body


def asked(document: Any) -> bytes:
    """A request for a document that is JSON."""
    return posted(json.dumps(document).encode())


_NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([1e-308, 5e-324, 1e308, -0.0, 2**63, 10**400])
)
_ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
_KEYS = (
    "prompt", "max_tokens", "temperature", "top_p", "n", "best_of", "stream", "stream_options",
    "stop", "seed", "logprobs", "echo", "logit_bias", "repetition_penalty", "presence_penalty",
    "min_tokens", "frequency_penalty", "top_k", "min_p", "typical_p", "messages", "suffix", "model",
    "unknown",
)  # fmt: skip
_SHORT = {"max_tokens": 3}
_TABLES = st.dictionaries(st.sampled_from(_KEYS), _ANY, max_size=6).map(lambda body: _SHORT | body)

BODIES = st.one_of(
    _TABLES.map(lambda body: posted(json.dumps(body).encode())),
    st.binary(max_size=200).map(posted),
    st.sampled_from(
        [
            asked({"prompt": list(range(256)) * 300}),
            asked({"prompt": ["a"] * 100_000}),
            asked({"prompt": ["a"] * 2000, "n": 128}),
            asked({"prompt": "a" * 5_000_000}),
            asked({"stop": "a" * 900_000}),
            asked({"stop": [str(i) for i in range(10_000)]}),
            asked(_SHORT | {"temperature": 1e-308}),
            asked(_SHORT | {"repetition_penalty": 1e-308}),
            asked(_SHORT | {"repetition_penalty": 1e6, "logit_bias": {"5": 100}}),
            asked(_SHORT | {"logit_bias": {str(i): -100 for i in range(300)}}),
            asked({"max_tokens": 0, "echo": True, "logprobs": 5, "prompt": "the " * 200}),
            posted(b"[" * 500_000),
            posted(b'{"user": ' + b'{"a":' * 100_000),
            posted(b'{"prompt": "\xff\xfe"}'),
            posted(b"{}", head=JSON_HEAD + b"Content-Encoding: gzip\r\n"),
            posted(b"{}", path=b"/" + b"a" * 60_000),
        ]
    ),
)

_START = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + JSON_HEAD
WIRE = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [
            _START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP",
            _START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
            _START + b"Content-Length: -1\r\n\r\n{}",
            _START + b"Content-Length: 99999999999999999999\r\n\r\n{}",
            _START + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
            _START + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            _START + b"Content-Length: 2000\r\n\r\n{",
            _START + b"".join(b"X-%d: 1\r\n" % i for i in range(20_000)) + b"\r\n",
            _START + b"X: " + b"a" * 1_000_000,
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"",
        ]
    ),
)  # fmt: skip


def send(port: int, request: bytes, *, reads: bool, half_closes: bool) -> bytes:
    """Send bytes, and return what comes back at once; b"" where nothing is read."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        try:
            caller.sendall(request)
            if half_closes:
                caller.shutdown(socket.SHUT_WR)
            if reads:
                caller.settimeout(0.5)
                answer = caller.recv(1 << 16)
        except OSError:
            pass  # the server cuts off who goes on after it has refused
    return answer
