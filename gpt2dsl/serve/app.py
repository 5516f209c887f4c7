"""The FastAPI application: its paths, its middleware, and errors in OpenAI's format."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gpt2dsl.serve import openapi, page, routes
from gpt2dsl.serve.errors import ApiError
from gpt2dsl.serve.guard import Guard
from gpt2dsl.serve.metrics import Counted
from gpt2dsl.serve.service import Service


def app(
    service: Service, *, hosts: Sequence[str] = (), key: str = "", origins: Sequence[str] = ()
) -> FastAPI:
    """Return the application, which accepts requests for ``hosts`` with the key, if one is set."""
    paths = FastAPI(
        title="gpt2dsl",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation,
    )
    paths.include_router(page.routes())
    for part in (routes.operations, routes.models, routes.generation, routes.tokens):
        paths.include_router(part(service))
    described = openapi.describe(paths, service, needs_key=bool(key))
    paths.openapi = lambda: openapi.with_ids(described, service)  # type: ignore[method-assign]

    @paths.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return error.response

    @paths.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        place = f"{request.method} {request.url.path[:200]}"
        headers = dict(error.headers or {})
        if "Allow" not in headers:
            return ApiError(error.status_code, f"{place}: no such path here").response
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        message = f"{place}: ask it with {headers['Allow']}"
        return ApiError(error.status_code, message, headers=headers).response

    @paths.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return ApiError(500, f"{type(error).__name__}: {error}").response

    paths.add_middleware(Counted, metrics=service.metrics)
    paths.add_middleware(Guard, hosts=hosts, key=key)
    if origins:
        paths.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    return paths


def _operation(route: APIRoute) -> str:
    return route.name
