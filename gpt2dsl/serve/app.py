"""The routes: completions, models, health."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse

from gpt2dsl.errors import SpecError
from gpt2dsl.serve import documents
from gpt2dsl.serve.answer import Answer
from gpt2dsl.serve.schema import CompletionRequest
from gpt2dsl.serve.worker import BusyError, Worker


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
        return _refusal(
            400, f"{place}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        )

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
        return JSONResponse({"object": "list", "data": [documents.model(name)]})

    @routes.get("/v1/models/{asked:path}")
    async def model(asked: str) -> Response:
        return JSONResponse(documents.model(name)) if asked == name else _no_model(asked, name)

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
        raise RefusedError(_no_model(body.model, name))
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


def _no_model(asked: str, name: str) -> Response:
    return _refusal(404, f"no model {asked!r} here; {name!r} is", "model_not_found")


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
