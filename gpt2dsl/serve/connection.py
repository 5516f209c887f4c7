"""Client connections: uvicorn's protocol with limits on their number, speed and work."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from gpt2dsl.serve.errors import ApiError

MOST = 512
"""Maximum open connections; further ones are closed immediately."""

PIECE = 4 << 10
"""Bytes parsed before other connections have their turn."""

LEAST_PIECE = 256
"""Minimum of PIECE where parsing is slow: thousands of tiny chunks of a body fit in a socket
buffer."""

LONG_WORK = 0.001
"""Seconds of work beyond which the next piece is smaller and delayed; most pieces take a tenth."""

REST_PER_WORK = 19
"""Delay of a connection, in seconds per second of slow work. MindSpore's threads wait for one
another, and so for any thread that takes one of their processors."""

LINGER = 2.0
"""Seconds for a client to read a refusal while its remaining input is discarded. If the connection
were closed with unread input, TCP would discard the refusal."""

HEAD = 16 << 10
"""Maximum bytes of the head of a request."""

MOST_CHUNKS = 1 << 15
"""Chunks that a body may have at any size; each one costs work."""

MEAN_CHUNK = 64
"""Minimum mean bytes per chunk of a body with more chunks than that."""

PATIENCE = 30.0
"""Seconds that a client may take to send the head of a request, or to read any of the response."""


class _Parser(h11.Connection):
    """h11's parser, which also refuses bodies in tiny chunks."""

    has_tiny_chunks = False
    _chunks = _bytes = 0

    @override
    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_end
            self._bytes += len(event.data)
            if self._chunks > MOST_CHUNKS and self._bytes < self._chunks * MEAN_CHUNK:
                self.has_tiny_chunks = True
                raise h11.RemoteProtocolError("tiny chunks")
        return event


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """The connection of one client."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.conn = self._parser = _Parser(h11.SERVER, HEAD)
        self._piece = bytearray(PIECE)
        self._piece_size = PIECE
        self._is_refused = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next piece of input."""
        return memoryview(self._piece)[: self._piece_size]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        """Parse the input in the buffer, and delay the connection if that was slow."""
        if self._is_refused:
            return
        began = time.thread_time()
        self.data_received(bytes(self._piece[:nbytes]))
        taken = time.thread_time() - began
        if taken <= LONG_WORK:
            self._piece_size = min(PIECE, 2 * self._piece_size)
            return
        self._piece_size = max(LEAST_PIECE, self._piece_size // 2)
        self.transport.pause_reading()
        self.loop.call_later(REST_PER_WORK * taken, self._go_on_reading)

    def _go_on_reading(self) -> None:
        """Resume reading unless the application has not yet taken the earlier input."""
        if not (self.flow.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
        self._time_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for timer in filter(None, (self._head_timer, self._read_timer)):
            timer.cancel()
        super().connection_lost(exc)

    @override
    def handle_events(self) -> None:
        super().handle_events()
        self._time_head()

    def _time_head(self) -> None:
        """Start or stop the timer that closes a connection without a complete request head."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle and not cycle.response_complete:
            if self._head_timer:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(PATIENCE, self.transport.abort)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(PATIENCE, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        if self._read_timer:
            self._read_timer.cancel()
        super().resume_writing()

    @override
    def send_400_response(self, msg: str) -> None:
        """Refuse input that is not valid HTTP, in OpenAI's format."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # a response has begun: no error can be sent within it
            return
        if self._parser.has_tiny_chunks:
            msg = f"the body has over {MOST_CHUNKS} chunks of less than {MEAN_CHUNK} bytes"
            msg += "; send larger ones"
        body = json.dumps(ApiError(400, msg).document).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._is_refused = True
        cycle: RequestResponseCycle | None = self.cycle
        if cycle:  # the application may wait for the rest of the body, or try to respond
            cycle.waiting_for_100_continue = False
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(LINGER, self.transport.close)
