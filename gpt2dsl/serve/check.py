"""One request to a server, to see that it answers."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from gpt2dsl.errors import RunError

_SECONDS = 300


def check(url: str, key: str) -> str:
    """Ask a server for a text, and return a line that says what it gave.

    Args:
        url: of the server.
        key: that it wants; "" for none.

    Raises:
        RunError: it does not answer as it should.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_SECONDS)
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    body = json.dumps({"prompt": "", "max_tokens": 4, "temperature": 0})
    try:
        connection.request("POST", "/v1/completions", body, headers)
        answer = connection.getresponse()
        document: Any = json.loads(answer.read())
        if answer.status != 200:
            raise RunError(f"the check failed: {document['error']['message']}")
    except (OSError, ValueError) as error:
        raise RunError(f"the check failed: {error}") from None
    finally:
        connection.close()
    usage = document["usage"]
    return f"checked: a request was answered with {usage['completion_tokens']} tokens"
