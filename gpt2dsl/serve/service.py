"""State shared by the routes: worker and limits, and the submission of requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeVar

import attrs
import jinja2
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect

from gpt2dsl.data.chat_template import DEFAULT
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.errors import SpecError
from gpt2dsl.serve.answer import Answer, AnswerFormatter
from gpt2dsl.serve.connection import PATIENCE
from gpt2dsl.serve.documents import now
from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.limits import Limits
from gpt2dsl.serve.memory import ResidentMemory
from gpt2dsl.serve.metrics import Metrics
from gpt2dsl.serve.priority import stand_back
from gpt2dsl.serve.schema.base import Body, parsed
from gpt2dsl.serve.schema.sampling import Sampling
from gpt2dsl.serve.template import ChatTemplate
from gpt2dsl.serve.worker import BusyError, Event, GenerationWorker

T = TypeVar("T")
B = TypeVar("B", bound=Body)

STREAM = "text/event-stream"

_THREADS = 1
"""Bodies parsed at once; others wait, so that they do not starve running texts."""


@attrs.define(eq=False)
class Service:
    """A served model and its adapters.

    Attributes:
        template: a chat template in place of those of the tokenizers.
        roots: name of a model → location of its weights, as /v1/models reports it; its name by
            default.
        created: start time, Unix seconds.
    """

    worker: GenerationWorker
    name: str
    limits: Limits
    template: str | None = None
    roots: Mapping[str, str] = attrs.field(factory=dict)
    metrics: Metrics = attrs.field(init=False)
    is_stopping: bool = False
    created: int = attrs.field(factory=now)
    _open: set[Answer] = attrs.field(factory=set, init=False)
    _chats: dict[str, ChatTemplate] = attrs.field(factory=dict, init=False)
    _pool: ThreadPoolExecutor = attrs.field(
        factory=partial(ThreadPoolExecutor, _THREADS, "requests", stand_back), init=False
    )

    _memory: ResidentMemory = attrs.field(init=False)

    @_memory.default
    def _freed(self) -> ResidentMemory:
        return ResidentMemory(self.off_loop)

    @metrics.default
    def _metrics(self) -> Metrics:
        return Metrics(self.worker)

    @property
    def state(self) -> Literal["ok", "loading", "stopping", "down"]:
        if self.is_stopping:
            return "stopping"
        if not self.worker.is_alive():
            return "down"
        return "ok" if self.worker.model.done() else "loading"

    def model(self) -> LanguageModel:
        """Return the model without an adapter.

        Raises:
            ApiError: the model is loading, or the server is stopping or down.
        """
        messages = {
            "loading": "the model is loading; try again later",
            "stopping": "the server is going down",
            "down": "the server is down",
        }
        if (state := self.state) != "ok":
            raise ApiError(503, messages[state], code=state)
        return self.worker.model.result()

    def models(self) -> dict[str, LanguageModel]:
        """Return name → model, the base model first.

        Raises:
            ApiError: as for ``model``.
        """
        base = self.model()
        return {self.name: base, **base.adapters}

    def named(self, asked: str | None) -> LanguageModel:
        """Return the model that a request names, by default the base model.

        Raises:
            ApiError: no model has that name, or as for ``model``.
        """
        models = self.models()
        if asked is None:
            return models[self.name]
        if asked not in models:
            here = f"{', '.join(map(repr, models))} {'are' if len(models) > 1 else 'is'}"
            message = f"no model {asked[:200]!r} here; {here}"
            raise ApiError(404, message, code="model_not_found", param="model")
        return models[asked]

    def name_of(self, model: LanguageModel) -> str:
        return model.adapter or self.name

    def chat_template(self, model: LanguageModel) -> ChatTemplate:
        """Return the chat template of a model.

        Raises:
            ApiError: the model has no chat template, or it is invalid.
        """
        name, tokenizer = self.name_of(model), model.tokenizer
        if name in self._chats:
            return self._chats[name]
        source = self.template
        if source is None:
            source = tokenizer.chat_templates.get(DEFAULT)
        if source is None:
            cure = (
                "serve it with --template FILE (task.template in a recipe), or ask /v1/completions"
            )
            raise ApiError(400, f"{name} has no chat template: {cure}", param="messages")
        try:
            self._chats[name] = ChatTemplate(source, tokenizer.special_tokens)
        except jinja2.TemplateError as error:
            raise ApiError(500, f"the model's chat template is none: {error}") from None
        return self._chats[name]

    async def body(self, request: Request, *kinds: type[B]) -> B:
        """Receive the body of a request and parse it outside the event loop.

        Raises:
            ApiError: the body is too large, too slow, not JSON or of none of these types.
        """
        _refuse_media(request)
        self.model()
        try:
            raw = await asyncio.wait_for(self._raw(request), PATIENCE)
        except asyncio.TimeoutError:
            raise ApiError(408, "the body did not come", headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise ApiError(400, "the client has left") from None
        self._memory.clear_up_after(len(raw))
        return await self.off_loop(parsed, kinds, raw)

    async def _raw(self, request: Request) -> bytes:
        limit = self.limits.body
        message = f"the body has more than {limit} bytes (--max-body, task.max_body in a recipe)"
        with contextlib.suppress(ValueError):
            if int(request.headers.get("content-length", "")) > limit:
                raise ApiError(413, message)
        raw = bytearray()
        async for piece in request.stream():
            raw += piece
            if len(raw) > limit:
                raise ApiError(413, message)
        return bytes(raw)

    async def off_loop(self, work: Callable[..., T], *args: Any) -> T:
        """Call a function outside the event loop and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    async def respond(
        self,
        request: Request,
        body: Sampling,
        prompts: int,
        formatter: AnswerFormatter,
        rows: Callable[[], Sequence[Row]],
    ) -> Response:
        """Return the response to a request, complete or as a stream.

        Raises:
            ApiError: the request is refused or fails.
        """
        self.limits.check(body, prompts)
        with refused():
            answer = Answer(body, formatter, await self.off_loop(rows), self.metrics)
        self._submit(answer, body)
        self.metrics.texts.labels(formatter.head["model"]).inc(len(answer.ticket.rows))
        if body.stream:
            return StreamingResponse(self._listed(answer), media_type=STREAM)
        with self._listing(answer):
            return await answer.complete(request, self.off_loop)

    def _submit(self, answer: Answer, body: Sampling) -> None:
        self.model()
        if body.longest == 0 and not body.scores_prompt:
            for index, _ in enumerate(answer.ticket.rows):
                answer.ticket.tell(Event(index, is_over=True))
            return
        try:
            self.worker.submit(answer.ticket)
        except BusyError as error:
            raise ApiError(503, str(error), code="busy") from None

    async def _listed(self, answer: Answer) -> AsyncIterator[str]:
        with self._listing(answer):
            async for event in answer.stream():
                yield event

    @contextmanager
    def _listing(self, answer: Answer) -> Iterator[None]:
        """Register an answer for ``give_up`` while the block runs."""
        self._open.add(answer)
        try:
            yield
        finally:
            self._open.discard(answer)

    def give_up(self) -> None:
        """End all unfinished answers with an error."""
        for answer in list(self._open):
            answer.give_up(ApiError(503, "the server is going down", code="stopping"))


def _refuse_media(request: Request) -> None:
    """Refuse bodies that are not plain JSON."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise ApiError(415, f"Content-Encoding {encoding[:40]!r} is not read; send plain JSON")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "send the body as Content-Type: application/json")


_KEYS = {
    "stop_strings": "stop", "min_new_tokens": "min_tokens", "max_new_tokens": "max_tokens",
    "sequence_bias": "logit_bias",
}  # fmt: skip
"""Key of ``[generation]`` → key of a request."""


@contextmanager
def refused() -> Iterator[None]:
    """Translate a ``SpecError`` into a response under the keys of the request.

    Raises:
        ApiError: every fault.
    """
    try:
        yield
    except SpecError as error:
        faults = error.faults
    else:
        return
    keys = [fault.key.removeprefix("generation.") for fault in faults]
    named = [_KEYS.get(key, key) for key in keys]
    message = "; ".join(f"{key}: {fault.message}" for key, fault in zip(named, faults, strict=True))
    is_long = any(fault.code == "G2-204" for fault in faults)
    raise ApiError(400, message, code="context_length_exceeded" if is_long else None)
