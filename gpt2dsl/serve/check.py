"""Smoke test of a server by one request to each of its models."""

from __future__ import annotations

import http.client
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from gpt2dsl.errors import RunError

_SECONDS = 300


def check(url: str, key: str) -> list[str]:
    """Request a text from each model of a server, and return a line of report for each.

    Raises:
        RunError: a request fails.
    """
    names = [model["id"] for model in _ask(url, key, "GET", "/v1/models")["data"]]
    return [_checked(url, key, name, of=f" {name}" if len(names) > 1 else "") for name in names]


def _checked(url: str, key: str, name: str, *, of: str) -> str:
    body = {"model": name, "prompt": "", "max_tokens": 4, "temperature": 0}
    usage = _ask(url, key, "POST", "/v1/completions", body, of=of)["usage"]
    return f"checked{of}: a request was answered with {usage['completion_tokens']} tokens"


def _ask(
    url: str, key: str, method: str, path: str, body: Any = None, *, of: str = ""
) -> dict[str, Any]:
    """Send a request and return the JSON document of the response."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_SECONDS)
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        document: dict[str, Any] = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise RunError("G2-402", f"the check{of} failed: {error}") from None
    finally:
        connection.close()
    if answer.status != 200:
        reason = f"it was answered with status {answer.status}"
        with suppress(KeyError, TypeError):
            reason = document["error"]["message"]
        raise RunError("G2-402", f"the check{of} failed: {reason}")
    return document
