"""The web page at ``/`` for completions and chats, a client of the server's own API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
"""Path → file in this folder and its media type."""

PATHS = tuple(FILES)
"""Paths that need no API key, since the page prompts for it."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content security policy: load these files and send requests to this server."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def routes() -> APIRouter:
    """Return the paths of the page, which /openapi.json leaves out."""
    router = APIRouter(include_in_schema=False)
    for path, (name, kind) in FILES.items():
        content = (Path(__file__).parent / name).read_bytes()
        router.add_api_route(path, _giver(content, kind), name=name, methods=["GET", "HEAD"])
    return router


def _giver(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    """Return a handler that responds with a file."""

    async def give() -> Response:
        return Response(content, headers=HEADERS, media_type=kind)

    return give
