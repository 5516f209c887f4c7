"""The description of the server: every body, status and document, for /openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from gpt2dsl.serve.errors import ErrorDocument
from gpt2dsl.serve.schema.base import Body
from gpt2dsl.serve.schema.chat import ChatRequest
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.serve.schema.tokens import DetokenizeRequest, TokenizeChatRequest, TokenizeRequest
from gpt2dsl.serve.service import STREAM, Service

_BODIES = (
    CompletionRequest, ChatRequest, TokenizeRequest, TokenizeChatRequest, DetokenizeRequest,
)  # fmt: skip
_PLACE = "#/components/schemas/{model}"

_ERRORS = {
    400: "The request is wrong: the message names the key and says why.",
    401: "The API key is missing or wrong.",
    403: "The Host header has a name that is not served here.",
    404: "There is no such model.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body is not plain JSON.",
    500: "The server failed.",
    503: "The model is loading, the queue is full, or the server is going down.",
}
ALWAYS = (400, 401, 403, 500)
ONCE_LOADED = (*ALWAYS, 503)
_OF_BODIES = tuple(_ERRORS)

Responses = dict[int | str, dict[str, Any]]


def responses(
    document: Any = None,
    *,
    description: str = "The answer.",
    content: Mapping[str, Any] | None = None,
    statuses: tuple[int, ...] = ALWAYS,
) -> Responses:
    """Return the responses of a path.

    Args:
        document: of an answer.
        description: of it.
        content: other kinds of it.
        statuses: of errors.
    """
    answer: dict[str, Any] = {"description": description}
    if document:
        answer["model"] = document
    if content:
        answer["content"] = dict(content)
    errors: Responses = {
        status: {"model": ErrorDocument, "description": _ERRORS[status]} for status in statuses
    }
    return {200: answer, **errors}


def of_body(document: Any, *, streams: bool = False) -> Responses:
    """Return the responses of a path that takes a body."""
    events = {STREAM: {"schema": {"type": "string"}}} if streams else None
    return responses(document, content=events, statuses=_OF_BODIES)


def asks(*kinds: type[Body]) -> dict[str, Any]:
    """Return the description of a body that is of one of some kinds."""
    places = [{"$ref": _PLACE.format(model=kind.__name__)} for kind in kinds]
    schema = places[0] if len(places) == 1 else {"anyOf": places}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe(routes: FastAPI, service: Service, *, needs_key: bool) -> dict[str, Any]:
    """Return /openapi.json, with the limits of this server.

    Args:
        routes: the application.
        service: whose limits hold.
        needs_key: whether requests need the API key.
    """
    described = FastAPI.openapi(routes)
    components = described.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, bodies = models_json_schema([(kind, "validation") for kind in _BODIES], ref_template=_PLACE)
    schemas |= bodies["$defs"]
    schemas["TokenId"] = {"type": "integer", "minimum": 0}
    if service.state == "ok":
        # an id within it is one of every model
        last = min(model.geometry.vocab for model in service.models().values()) - 1
        schemas["TokenId"]["maximum"] = last
        for kind in (CompletionRequest, ChatRequest):
            _limit(schemas[kind.__name__], service, last)
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
    return described


def _limit(schema: dict[str, Any], service: Service, last: int) -> None:
    """Put the limits of a server into the schema of a request."""
    limits, properties = service.limits, schema["properties"]
    stop = properties["stop"]["anyOf"][0]["anyOf"]
    stop[0]["maxLength"] = stop[1]["items"]["maxLength"] = limits.stop_length
    stop[1]["maxItems"] = limits.stops
    bias = properties["logit_bias"]["anyOf"][0]
    (values,) = bias["patternProperties"].values()
    bias["patternProperties"] = {rf"^({numbers_to(last)})$": values}
    for key in {"n", "best_of"} & properties.keys():
        properties[key]["anyOf"][0]["maximum"] = min(128, limits.texts)


def numbers_to(last: int) -> str:
    """Return a regular expression of the numbers from 0 to ``last``."""
    digits = str(last)
    choices = ["0"] + ([rf"[1-9][0-9]{{0,{len(digits) - 2}}}"] if len(digits) > 1 else [])
    for place, digit in enumerate(digits):
        least = 0 if place else 1
        if int(digit) > least:
            rest = f"[0-9]{{{len(digits) - place - 1}}}"
            choices.append(f"{digits[:place]}[{least}-{int(digit) - 1}]{rest}")
    return "|".join([*choices, digits])
