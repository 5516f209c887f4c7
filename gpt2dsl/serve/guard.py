"""Checks of every request before any work: host, API key and framing."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from gpt2dsl.parts.web import is_ip_address
from gpt2dsl.serve import page
from gpt2dsl.serve.errors import ApiError

OPEN = ("/health", "/health/live", "/health/ready", *page.PATHS)
"""Paths that need no key: health checks, and the page, which prompts for the key."""


class Guard:
    """Middleware that refuses requests for foreign hosts and requests without the API key.

    By DNS rebinding, any site can point its name at 127.0.0.1 and have its pages read a local
    server; such requests carry that name as ``Host``. A numeric address can't be rebound.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], key: str) -> None:
        self._app, self._hosts = app, {host.lower() for host in hosts}
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or refuse it."""
        if scope["type"] == "http" and (error := self._fault(scope)):
            await error.response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _fault(self, scope: Scope) -> ApiError | None:
        headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        named = {name for name, _ in headers}
        host = b"".join(value for name, value in headers if name == b"host").decode("latin-1")
        if host and not self._is_ours(host):
            message = f"host {host[:80]!r} is not served here"
            cure = "--allowed-host, task.allowed_hosts in a recipe, allows a name"
            return ApiError(403, f"{message}; {cure}", code="host_not_allowed")
        if {b"content-length", b"transfer-encoding"} <= named:
            message = "a body has a Content-Length or a Transfer-Encoding, not both"
            return ApiError(400, message, headers={"Connection": "close"})
        if self._key and scope["path"] not in OPEN and not self._is_authorised(headers):
            message = "no valid API key: send it as `Authorization: Bearer KEY`"
            bearer = {"WWW-Authenticate": "Bearer"}
            return ApiError(401, message, code="invalid_api_key", headers=bearer)
        return None

    def _is_ours(self, host: str) -> bool:
        matched = re.fullmatch(r"\[([^]]*)\](:\d*)?|([^:]*)(:\d*)?", host.lower())
        name = (matched[1] or matched[3] or "").removesuffix(".") if matched else host
        is_local = name == "localhost" or name.endswith(".localhost")
        is_number = is_ip_address(name.partition("%")[0])
        return is_local or is_number or not self._hosts.isdisjoint({"*", name})

    def _is_authorised(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Return whether the key is right, comparing in constant time."""
        values = [value for name, value in headers if name == b"authorization"]
        scheme, _, key = b"".join(values).partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)
