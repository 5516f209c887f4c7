"""Error responses in the format of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse, Response
from typing_extensions import TypedDict

from gpt2dsl.serve.documents import event

RETRY_AFTER = 1
"""Seconds after which to retry a request refused for lack of capacity."""


class ErrorBody(TypedDict):
    """Why there is no answer, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(TypedDict):
    """The body of every response that is no answer."""

    error: ErrorBody


class ApiError(Exception):
    """An error response, with OpenAI's error code for programs and the faulty key, ``param``."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})
        if status in (429, 503):
            self.headers.setdefault("Retry-After", str(RETRY_AFTER))

    @property
    def document(self) -> ErrorDocument:
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error")
        return {
            "error": {
                "message": self.message,
                "type": "server_error" if self.status >= 500 else kind,
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def response(self) -> Response:
        return JSONResponse(self.document, self.status, self.headers)

    @property
    def event(self) -> str:
        """Last event of a stream that fails after its start."""
        return event(self.document)
