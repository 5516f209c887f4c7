"""The routes: completions, models, health."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse

from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.errors import InputError, SpecError
from gpt2dsl.serve import documents
from gpt2dsl.serve.schema import CompletionRequest
from gpt2dsl.serve.worker import BusyError, Event, Ticket, Worker

POLL = 0.2
"""Seconds between looks whether a client that waits has left."""


def app(worker: Worker, name: str) -> FastAPI:
    """The application.

    Args:
        worker: that generates; its model is loaded.
        name: of the model.
    """
    routes = FastAPI(title="gpt2dsl", docs_url=None, redoc_url=None)

    @routes.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return _refusal(400, f"{place}: {first['msg']}".removeprefix(": "))

    @routes.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return error.response

    @routes.get("/health")
    async def health() -> Response:
        running, waiting = worker.counts
        status = 200 if worker.is_alive() else 503
        word = "ok" if worker.is_alive() else "down"
        return JSONResponse({"status": word, "running": running, "waiting": waiting}, status)

    @routes.get("/v1/models")
    async def models() -> Response:
        one = {"id": name, "object": "model", "created": 0, "owned_by": "gpt2dsl"}
        return JSONResponse({"object": "list", "data": [one]})

    @routes.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        answer = _accepted(body, worker, name)
        if body.stream:
            return StreamingResponse(answer.stream(), media_type="text/event-stream")
        return await answer.whole(request)

    @routes.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def unknown(path: str) -> Response:
        return _refusal(404, f"no /{path} for this method here; POST /v1/completions is")

    return routes


class RefusedError(Exception):
    """A request that gets no answer; the response says why."""

    def __init__(self, response: Response) -> None:
        self.response = response


def _accepted(body: CompletionRequest, worker: Worker, name: str) -> Answer:
    """The answer to a request, on its way.

    Raises:
        RefusedError: it can't be given.
    """
    if body.model != name:
        words = f"no model {body.model!r} here; {name!r} is"
        raise RefusedError(_refusal(404, words, "model_not_found"))
    if body.refused:
        raise RefusedError(_refusal(400, f"{body.refused}: not supported here"))
    try:
        answer = Answer(body, worker.model.result())
    except SpecError as error:
        raise RefusedError(_refusal(400, _words(error), _code(error))) from None
    count = len(answer.ticket.rows)
    if count > worker.capacity:
        words = f"{count} texts are more than {worker.capacity}, which fit here at once"
        raise RefusedError(_refusal(400, f"n and prompt: {words}"))
    try:
        worker.submit(answer.ticket)
    except BusyError as error:
        raise RefusedError(_refusal(503, str(error), server=True)) from None
    return answer


def _refusal(
    status: int, message: str, code: str | None = None, *, server: bool = False
) -> Response:
    return JSONResponse(documents.error(message, code=code, server=server), status)


_KEYS = {"stop_strings": "stop", "min_new_tokens": "min_tokens", "max_new_tokens": "max_tokens"}
"""Our word for a key → that of a request."""


def _words(error: SpecError) -> str:
    """Every fault, under the request's own keys."""
    keys = [fault.key.removeprefix("generation.") for fault in error.faults]
    named = zip(keys, error.faults, strict=True)
    return "; ".join(f"{_KEYS.get(key, key)}: {fault.message}" for key, fault in named)


def _code(error: SpecError) -> str | None:
    too_long = any("the prompt has" in fault.message for fault in error.faults)
    return "context_length_exceeded" if too_long else None


class Answer:
    """One request's answer: its texts, and what becomes of them.

    Raises:
        SpecError: a value or a prompt can't be.
    """

    def __init__(self, body: CompletionRequest, model: LanguageModel) -> None:
        generation = body.generation()
        self._body, self._head = body, documents.head(body.model)
        prompts = [_text(one, model) for one in body.prompts]
        if not prompts:
            raise InputError("G2-302", "prompt", "there is none")
        texts = [prompt for prompt in prompts for _ in range(body.n)]
        self._rows = [model.row(one, generation, number) for number, one in enumerate(texts)]
        self._prompt_tokens = sum(len(row.request.ids) for row in self._rows[:: body.n])
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, event)

        self.ticket = Ticket(self._rows, body.stops, tell)

    async def whole(self, request: Request) -> Response:
        """All texts at once; given up where the client leaves."""
        texts = [row.request.prompt if self._body.echo else "" for row in self._rows]
        left = len(texts)
        watch = asyncio.create_task(self._watch(request))
        try:
            while left:
                event = await self._events.get()
                if event.failure:
                    return _refusal(500, event.failure, server=True)
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
        return JSONResponse({**self._head, "choices": choices, "usage": usage})

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
            if self._body.stream_options and self._body.stream_options.include_usage:
                usage = documents.usage(self._rows, self._prompt_tokens)
                yield _line({**self._head, "choices": [], "usage": usage})
            yield "data: [DONE]\n\n"
        finally:
            self.ticket.cancel()

    def _event(self, choices: Sequence[documents.Document]) -> str:
        return _line({**self._head, "choices": choices})


def _line(document: documents.Document) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"


def _text(prompt: str | list[int], model: LanguageModel) -> str:
    """A prompt as text; ids are of the model's tokenizer."""
    if isinstance(prompt, str):
        return prompt
    if any(i >= len(model.tokenizer) for i in prompt):
        message = f"{max(prompt)} is no id: there are {len(model.tokenizer)}"
        raise InputError("G2-204", "prompt", message)
    return model.tokenizer.decode(prompt)
