"""The answer to a request: whole, or piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from gpt2dsl.data.documents import dumps
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.serve import documents
from gpt2dsl.serve.schema import CompletionRequest
from gpt2dsl.serve.worker import Event, Ticket

POLL = 0.2
"""Seconds between looks whether a client that waits has left."""


class Answer:
    """One request's answer: its texts, and what becomes of them.

    Raises:
        SpecError: a value or a prompt can't be.
    """

    def __init__(self, body: CompletionRequest, model: LanguageModel) -> None:
        generation = body.generation()
        self._body, self._head = body, documents.head(body.model)
        texts = [prompt for prompt in body.prompts for _ in range(body.n)]
        self._rows = [
            model.row(prompt, generation, number, stops_in_prompt=False)
            for number, prompt in enumerate(texts)
        ]
        self._prompt_tokens = sum(len(row.request.ids) for row in self._rows[:: body.n])
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, event)

        stops = self._rows[0].request.generation.stop_strings
        self.ticket = Ticket(self._rows, stops, tell)

    async def whole(self, request: Request) -> Response:
        """All texts at once; given up where the client leaves."""
        texts = [row.request.prompt if self._body.echo else "" for row in self._rows]
        left = len(texts)
        watch = asyncio.create_task(self._watch(request))
        try:
            while left:
                event = await self._events.get()
                if event.failure:
                    return JSONResponse(documents.error(event.failure, server=True), 500)
                texts[event.index] += event.piece
                left -= event.is_over
        finally:
            watch.cancel()
            self.ticket.cancel()
        scored = self._body.logprobs is not None
        choices = [
            documents.choice(i, text, row, scored=scored)
            for i, (text, row) in enumerate(zip(texts, self._rows, strict=True))
        ]
        usage = documents.usage(self._rows, self._prompt_tokens)
        answer = dumps({**self._head, "choices": choices, "usage": usage})
        return Response(answer, media_type="application/json")

    async def _watch(self, request: Request) -> None:
        """Give the texts up once the client has left."""
        while not await request.is_disconnected():
            await asyncio.sleep(POLL)
        self.ticket.cancel()
        self._events.put_nowait(Event(0, failure="the client has left"))

    async def stream(self) -> AsyncIterator[str]:
        """Piece by piece, as server-sent events."""
        try:
            if self._body.echo:
                for i, row in enumerate(self._rows):
                    yield self._event([documents.choice(i, row.request.prompt)])
            left = len(self._rows)
            while left:
                event = await self._events.get()
                if event.failure:
                    yield _line(documents.error(event.failure, server=True))
                    return
                over = self._rows[event.index] if event.is_over else None
                if event.piece or over is not None:
                    yield self._event([documents.choice(event.index, event.piece, over)])
                left -= event.is_over
            if self._body.stream_options.include_usage:
                usage = documents.usage(self._rows, self._prompt_tokens)
                yield _line({**self._head, "choices": [], "usage": usage})
            yield "data: [DONE]\n\n"
        finally:
            self.ticket.cancel()

    def _event(self, choices: Sequence[documents.Document]) -> str:
        return _line({**self._head, "choices": choices})


def _line(document: documents.Document) -> str:
    return f"data: {dumps(document)}\n\n"
