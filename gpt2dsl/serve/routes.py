"""The paths of the server and their handlers."""

from __future__ import annotations

import importlib.metadata
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.serve import chat, completions, documents
from gpt2dsl.serve.documents import Health, Model, Tokens
from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.metrics import CONTENT_TYPE
from gpt2dsl.serve.openapi import ONCE_LOADED, asks, link, of_body, responses
from gpt2dsl.serve.schema.chat import ChatRequest
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.serve.schema.tokens import (
    DetokenizeRequest,
    TokenizeChatRequest,
    TokenizeRequest,
)
from gpt2dsl.serve.service import Service, refused

_TEXT = {"text/plain": {"schema": {"type": "string"}}}


def operations(service: Service) -> APIRouter:
    """Return the paths of health checks, version and metrics."""
    routes = APIRouter(tags=["operations"])

    def status() -> Health:
        running, waiting = service.worker.counts
        return {"status": service.state, "running": running, "waiting": waiting}

    async def ready() -> Response:
        """Say whether requests are answered: not while the model loads or the server stops."""
        return JSONResponse(status(), 200 if service.state == "ok" else 503)

    of_health = responses(Health) | {503: {"model": Health, "description": "Not now."}}
    routes.get("/health", responses=of_health, name="health")(ready)
    routes.get("/health/ready", responses=of_health, name="health_ready")(ready)

    @routes.get("/health/live", responses=responses(Health), name="health_live")
    async def live() -> Response:
        """Say that the process is alive, whether it is ready or not."""
        return JSONResponse(status())

    @routes.get("/version", responses=responses(documents.Version))
    async def version() -> Response:
        """Say which version of gpt2dsl this is."""
        return JSONResponse({"version": importlib.metadata.version("gpt2dsl")})

    @routes.get("/metrics", responses=responses(content=_TEXT), response_class=Response)
    async def metrics() -> Response:
        """Give what was counted, in the format of Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return routes


def models(service: Service) -> APIRouter:
    """Return the paths that describe the models."""
    routes = APIRouter(tags=["models"])

    def described(model: LanguageModel) -> Model:
        name = service.name_of(model)
        return {
            "id": name,
            "object": "model",
            "created": service.created,
            "owned_by": "gpt2dsl",
            "root": service.roots.get(name, name),
            "parent": service.name if model.adapter else None,
            "max_model_len": model.geometry.positions,
        }

    first = link("retrieve_model", model="$response.body#/data/0/id")
    of_all = responses(documents.Models, links={"first": first}, statuses=ONCE_LOADED)

    @routes.get("/v1/models", responses=of_all)
    async def list_models() -> Response:
        """List the models that are served."""
        models = list(map(described, service.models().values()))
        return JSONResponse({"object": "list", "data": models})

    named = {"model": "$response.body#/id"}
    generating = {
        "complete": link("create_completion", body=named),
        "chat": link("create_chat_completion", body=named),
    }
    of_name = responses(Model, links=generating, statuses=(*ONCE_LOADED, 404))

    @routes.get("/v1/models/{model:path}", responses=of_name)
    async def retrieve_model(model: str) -> Response:
        """Describe a model."""
        return JSONResponse(described(service.named(model)))

    return routes


def generation(service: Service) -> APIRouter:
    """Return the paths that generate texts."""
    routes = APIRouter(tags=["generation"])

    @routes.post(
        "/v1/completions",
        responses=of_body(documents.Completion, event=documents.Completion),
        openapi_extra=asks(CompletionRequest),
    )
    async def create_completion(request: Request) -> Response:
        """Continue texts."""
        body = await service.body(request, CompletionRequest)
        model = service.named(body.model)
        formatter = completions.CompletionFormatter(service.name_of(model), body)
        rows = partial(completions.rows, model, body)
        return await service.respond(request, body, len(body.prompts), formatter, rows)

    @routes.post(
        "/v1/chat/completions",
        responses=of_body(documents.Chat, event=documents.ChatChunk),
        openapi_extra=asks(ChatRequest),
    )
    async def create_chat_completion(request: Request) -> Response:
        """Continue a chat."""
        body = await service.body(request, ChatRequest)
        model = service.named(body.model)
        formatter = chat.ChatFormatter(service.name_of(model), body)
        rows = partial(chat.rows, model, service.chat_template(model), body)
        return await service.respond(request, body, 1, formatter, rows)

    return routes


def tokens(service: Service) -> APIRouter:
    """Return the paths that tokenize and detokenize, as in vLLM."""
    routes = APIRouter(tags=["tokens"])
    of_tokens = {
        "detokenize": link("detokenize", body={"tokens": "$response.body#/tokens"}),
        "complete": link("create_completion", body={"prompt": "$response.body#/tokens"}),
    }
    of_text = {"tokenize": link("tokenize", body="$response.body")}

    @routes.post(
        "/tokenize",
        responses=of_body(Tokens, links=of_tokens),
        openapi_extra=asks(TokenizeRequest, TokenizeChatRequest),
    )
    async def tokenize(request: Request) -> Response:
        """Give the tokens of a text or of a chat."""
        body = await service.body(request, TokenizeRequest, TokenizeChatRequest)
        model = service.named(body.model)
        tokenizer = model.tokenizer
        if isinstance(body, TokenizeRequest):
            text, special = body.prompt, body.add_special_tokens
        else:
            assert isinstance(body, TokenizeChatRequest)
            text = await service.off_loop(chat.text, service.chat_template(model), body)
            special = body.add_special_tokens
        with refused():
            ids = await service.off_loop(partial(tokenizer.encode, special=special), text)
        strings = tokenizer.strings if body.return_token_strs else None
        head = {"count": len(ids), "max_model_len": model.geometry.positions}
        content = await service.off_loop(documents.tokens, head, ids, strings)
        return Response(content, media_type="application/json")

    @routes.post(
        "/detokenize",
        responses=of_body(documents.Detokenized, links=of_text),
        openapi_extra=asks(DetokenizeRequest),
    )
    async def detokenize(request: Request) -> Response:
        """Give the text of tokens."""
        body = await service.body(request, DetokenizeRequest)
        model = service.named(body.model)
        last = model.geometry.vocab - 1
        if (largest := max(body.tokens, default=0)) > last:
            raise ApiError(400, f"tokens: {largest} is no id: the last is {last}", param="tokens")
        return JSONResponse({"prompt": await service.off_loop(model.tokenizer.decode, body.tokens)})

    return routes
