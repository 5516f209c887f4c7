"""Responses to requests, complete or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from gpt2dsl.data.documents import dumps
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.serve import documents
from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.metrics import Metrics
from gpt2dsl.serve.schema.sampling import Sampling
from gpt2dsl.serve.texts import Span, Text, mean_logprob
from gpt2dsl.serve.worker import Event, Ticket


class AnswerFormatter(ABC):
    """The document format of an endpoint's answers.

    Attributes:
        head: the leading keys of each document.
        stream_head: the leading keys of each event of a stream.
    """

    head: Mapping[str, Any]
    stream_head: Mapping[str, Any]

    @abstractmethod
    def start(self, row: Row) -> int:
        """Return the number of characters that precede a generated text in the answer."""

    @abstractmethod
    def opening(self, index: int, row: Row) -> Mapping[str, Any] | None:
        """Return the first choice of the stream of a text, None if there is none."""

    @abstractmethod
    def piece(self, index: int, row: Row, span: Span) -> Mapping[str, Any]:
        """Return the choice with a piece of a text."""

    @abstractmethod
    def complete(self, index: int, row: Row, span: Span) -> Mapping[str, Any]:
        """Return the choice with a complete text."""


class Answer:
    """The answer to one request, assembled from the events of its texts.

    Args:
        rows: the rows that generate its texts, ``body.candidates`` per prompt.
    """

    def __init__(
        self, body: Sampling, formatter: AnswerFormatter, rows: Sequence[Row], metrics: Metrics
    ) -> None:
        self._body, self._formatter, self._rows, self._metrics = body, formatter, rows, metrics
        self._prompt_tokens = sum(len(row.request.ids) for row in rows[:: body.candidates])
        self._events: asyncio.Queue[Event | ApiError] = asyncio.Queue()
        self._began = time.monotonic()
        self._told_at = [self._began] * len(rows)
        self._is_begun = [False] * len(rows)
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, event)

        self.ticket = Ticket(rows, body.stops, tell)

    def give_up(self, error: ApiError) -> None:
        """End the answer with an error and cancel its texts."""
        self.ticket.cancel()
        self._events.put_nowait(error)

    async def complete(self, request: Request, off_loop: Callable[..., Any]) -> Response:
        """Return the response with all texts; cancel it if the client disconnects."""
        texts = [""] * len(self._rows)
        watch = asyncio.create_task(self._watch(request))
        try:
            async for event in self._told():
                texts[event.index] += event.piece
        finally:
            watch.cancel()
            self.ticket.cancel()
        # One choice at a time, so that the GIL is never held for long.
        choices = [
            await off_loop(self._choice, index, number, texts[number])
            for index, number in enumerate(self._best())
        ]
        usage = documents.usage(self._rows, self._prompt_tokens)
        head = dumps(self._formatter.head)[:-1]
        content = f'{head}, "choices": [{", ".join(choices)}], "usage": {dumps(usage)}}}'
        return Response(content, media_type="application/json")

    def _choice(self, index: int, number: int, text: str) -> str:
        row = self._rows[number]
        span = Text(row, self._formatter.start(row)).tell(text, is_over=True)
        return dumps(self._formatter.complete(index, row, span))

    def _best(self) -> Iterable[int]:
        """Yield the indices of the rows to return, the ``n`` likeliest ones of each prompt."""
        each = self._body.candidates
        for first in range(0, len(self._rows), each):
            group = range(first, first + each)
            if each > self._body.n:
                ranked = sorted(group, key=lambda number: -mean_logprob(self._rows[number]))
                group = ranked[: self._body.n]  # type: ignore[assignment]
            yield from group

    async def _watch(self, request: Request) -> None:
        """Cancel the answer once the client has disconnected."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.give_up(ApiError(400, "the client has left"))

    async def stream(self) -> AsyncIterator[str]:
        """Yield the answer piece by piece as server-sent events."""
        try:
            texts: dict[int, Text] = {}
            async for event in self._told():
                index, row = event.index, self._rows[event.index]
                if index not in texts:
                    texts[index] = Text(row, self._formatter.start(row))
                    if (opening := self._formatter.opening(index, row)) is not None:
                        yield self._event([opening])
                span = texts[index].tell(event.piece, is_over=event.is_over)
                if span.text or span.ids or span.finish:
                    yield self._event([self._formatter.piece(index, row, span)])
            if self._body.stream_options.include_usage:
                usage = documents.usage(self._rows, self._prompt_tokens)
                yield self._event([], usage=usage)
            yield "data: [DONE]\n\n"
        except ApiError as error:
            yield error.event
        finally:
            self.ticket.cancel()

    async def _told(self) -> AsyncIterator[Event]:
        """Yield the events of all texts until every text is complete.

        Raises:
            ApiError: a text failed.
        """
        unfinished = len(self._rows)
        self._metrics.prompt_tokens.inc(self._prompt_tokens)
        while unfinished:
            event = await self._events.get()
            if isinstance(event, ApiError):
                raise event
            if event.failure:
                raise ApiError(400 if event.is_refusal else 500, event.failure)
            self._measure(event.index)
            yield event
            unfinished -= event.is_over

    def _measure(self, index: int) -> None:
        """Record the latency of a piece."""
        now = time.monotonic()
        waited = now - self._told_at[index]
        is_next, self._is_begun[index], self._told_at[index] = self._is_begun[index], True, now
        (self._metrics.next_token if is_next else self._metrics.first_token).observe(waited)

    def _event(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> str:
        document = {**self._formatter.stream_head, "choices": choices, **more}
        if self._body.stream_options.include_usage:
            document.setdefault("usage", None)
        return documents.event(document)
