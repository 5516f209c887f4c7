"""Requests that a server must outlive: bodies of every wrong kind, and HTTP that is none."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import deque
from typing import Any

from hypothesis import strategies as st

JSON_HEAD = b"Content-Type: application/json\r\n"


def posted(body: bytes, *, head: bytes = JSON_HEAD, path: bytes = b"/v1/completions") -> bytes:
    """A request as bytes."""
    length = str(len(body)).encode()
    start = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n"
    return start + head + b"Content-Length: " + length + b"\r\n\r\n" + body


def asked(document: Any, path: bytes = b"/v1/completions") -> bytes:
    """A request for a document that is JSON."""
    return posted(json.dumps(document).encode(), path=path)


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

_CHATS = b"/v1/chat/completions"
_CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "the"}], "max_tokens": 3}

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
            asked({"prompt": [[1]] * 150_000}),
            asked({"prompt": ["a", [1]] * 70_000}),
            asked({"user": [[]] * 250_000}),
            asked(_CHAT | {"messages": [{f"{i}": 1 for i in range(100)}] * 900}, _CHATS),
            asked(_CHAT | {"messages": _CHAT["messages"] * 1000}, _CHATS),
            asked({"prompt": "a b" * 300_000, "return_token_strs": True}, b"/tokenize"),
            asked({"tokens": [5] * 300_000}, b"/detokenize"),
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
            _START + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 100_000,
            _START + b"Content-Length: 2000\r\n\r\n{",
            _START + b"".join(b"X-%d: 1\r\n" % i for i in range(20_000)) + b"\r\n",
            _START + b"X: " + b"a" * 1_000_000,
            _START + b"a:\r\n" * 60_000 + b"\r\n",
            b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"",
        ]
    ),
)  # fmt: skip


class Slow:
    """Clients that take their time: at each turn they send, or read, one byte more.

    Args:
        port: of the server.
        count: of them at once; the first ones leave for others.
    """

    def __init__(self, port: int, count: int = 24) -> None:
        self._port, self._count = port, count
        self._callers: deque[tuple[socket.socket, bytearray]] = deque()

    def begin(self, request: bytes, sent: int) -> None:
        """Let one begin, with so many bytes; one whose whole request is sent reads slowly."""
        caller = socket.socket()
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        caller.settimeout(10)
        caller.connect(("127.0.0.1", self._port))
        caller.sendall(request[:sent])
        caller.setblocking(False)
        self._callers.append((caller, bytearray(request[sent:])))
        if len(self._callers) > self._count:
            self._callers.popleft()[0].close()

    def turn(self) -> None:
        """Let each send a byte, or read one."""
        for caller, rest in self._callers:
            with contextlib.suppress(OSError):  # nothing to read yet, or cut off
                if rest:
                    caller.send(rest[:1])
                    del rest[:1]
                else:
                    caller.recv(1)

    def leave(self) -> None:
        """Close all connections."""
        for caller, _ in self._callers:
            caller.close()
        self._callers.clear()


SLOW = st.one_of(
    st.tuples(st.sampled_from([asked({"prompt": "the", "max_tokens": 3})]), st.integers(0, 150)),
    st.just((asked({"prompt": "the", "max_tokens": 300, "stream": True, "logprobs": 5}), 1 << 20)),
    st.just((asked({"prompt": "the", "max_tokens": 100, "n": 4, "logprobs": 5}), 1 << 20)),
)
"""Requests, and how many bytes of them are sent at once."""


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
