"""OpenAPI description of the server: bodies, statuses and documents of all paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from gpt2dsl.serve.documents import ChatChunk
from gpt2dsl.serve.errors import ErrorDocument
from gpt2dsl.serve.guard import OPEN
from gpt2dsl.serve.limits import Limits
from gpt2dsl.serve.schema.base import Body
from gpt2dsl.serve.schema.chat import ChatRequest
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.serve.schema.tokens import DetokenizeRequest, TokenizeChatRequest, TokenizeRequest
from gpt2dsl.serve.service import STREAM, Service

_BODIES = (
    CompletionRequest, ChatRequest, TokenizeRequest, TokenizeChatRequest, DetokenizeRequest,
)  # fmt: skip
_SAMPLING = (CompletionRequest, ChatRequest)
_PLACE = "#/components/schemas/{model}"
_MODEL = "/v1/models/{model}"

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
    links: Mapping[str, Any] | None = None,
    statuses: tuple[int, ...] = ALWAYS,
) -> Responses:
    """Return the responses of a path: the answer, and the errors of some statuses."""
    answer: dict[str, Any] = {"description": description}
    if document:
        answer["model"] = document
    if content:
        answer["content"] = dict(content)
    if links:
        answer["links"] = dict(links)
    errors: Responses = {
        status: {"model": ErrorDocument, "description": _ERRORS[status]} for status in statuses
    }
    return {200: answer, **errors}


def of_body(
    document: Any, *, event: Any = None, links: Mapping[str, Any] | None = None
) -> Responses:
    """Return the responses of a path that takes a body, with ``event`` for those of a stream."""
    content = {STREAM: {"itemSchema": _server_sent(event)}} if event else None
    return responses(document, content=content, links=links, statuses=_OF_BODIES)


def _server_sent(document: Any) -> dict[str, Any]:
    """Return the schema of an event, which carries a document, an error or the end mark."""
    content = {"anyOf": [_reference(document), _reference(ErrorDocument)]}
    carried = {"contentMediaType": "application/json", "contentSchema": content}
    data = {"type": "string", "anyOf": [{"const": "[DONE]"}, carried]}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def link(operation: str, *, body: Any = None, **parameters: str) -> dict[str, Any]:
    """Return a link to an operation that takes values of an answer."""
    request = {"requestBody": body} if body else {}
    return {"operationId": operation, "parameters": parameters, **request}


def asks(*kinds: type[Body]) -> dict[str, Any]:
    """Return the description of a body of one of several types."""
    places = [_reference(kind) for kind in kinds]
    schema = places[0] if len(places) == 1 else {"anyOf": places}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _reference(kind: Any) -> dict[str, Any]:
    return {"$ref": _PLACE.format(model=kind.__name__)}


def describe(routes: FastAPI, service: Service, *, needs_key: bool) -> dict[str, Any]:
    """Return /openapi.json with the limits of this server that do not depend on the model."""
    described = FastAPI.openapi(routes)
    components = described["components"]
    schemas = components["schemas"]
    _, schema = TypeAdapter.json_schemas(
        [(kind, "validation", TypeAdapter(kind)) for kind in (*_BODIES, ChatChunk)],
        ref_template=_PLACE,
    )
    schemas |= schema["$defs"] | {"TokenId": {"type": "integer", "minimum": 0}}
    names = [service.name, *(name for name in service.roots if name != service.name)]
    for kind in _BODIES:
        schemas[kind.__name__]["properties"]["model"] = {"enum": [*names, None]}
    (parameter,) = described["paths"][_MODEL]["get"]["parameters"]
    parameter["schema"] = {"enum": names}
    for kind in _SAMPLING:
        _limit(schemas[kind.__name__]["properties"], service.limits)
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
        for path in described["paths"].keys() & set(OPEN):
            described["paths"][path]["get"]["security"] = []
    return described


def _limit(properties: dict[str, Any], limits: Limits) -> None:
    """Add the limits of a server to the schemas of request keys."""
    stop = properties["stop"]["anyOf"][0]["anyOf"]
    stop[0]["maxLength"] = stop[1]["items"]["maxLength"] = limits.stop_length
    stop[1]["maxItems"] = limits.stops
    for key in {"n", "best_of"} & properties.keys():
        properties[key]["anyOf"][0]["maximum"] = min(128, limits.texts)


def with_ids(described: dict[str, Any], service: Service) -> dict[str, Any]:
    """Return /openapi.json with the range of token ids, once the model is loaded."""
    if service.state == "ok":
        # ids up to this one are valid for every model
        last = min(model.geometry.vocab for model in service.models().values()) - 1
        schemas = described["components"]["schemas"]
        schemas["TokenId"]["maximum"] = last
        for kind in _SAMPLING:
            bias = schemas[kind.__name__]["properties"]["logit_bias"]["anyOf"][0]
            (values,) = bias["patternProperties"].values()
            bias["patternProperties"] = {rf"^({numbers_to(last)})$": values}
    return described


def numbers_to(last: int) -> str:
    """Return a regular expression for the integers from 0 to ``last``."""
    digits = str(last)
    choices = ["0"] + ([rf"[1-9][0-9]{{0,{len(digits) - 2}}}"] if len(digits) > 1 else [])
    for place, digit in enumerate(digits):
        least = 0 if place else 1
        if int(digit) > least:
            remainder = f"[0-9]{{{len(digits) - place - 1}}}"
            choices.append(f"{digits[:place]}[{least}-{int(digit) - 1}]{remainder}")
    return "|".join([*choices, digits])
