"""What schemathesis leaves out: what JSON Schema can't say, and the server refuses by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import schemathesis

TEXTS = 8
"""Texts that run and wait in the server at most."""

TOKENS = 50
"""Tokens of a prompt: each is a byte at least, and there must be room for some more."""


@schemathesis.hook  # type: ignore[untyped-decorator]
def filter_case(_: Any, case: Any) -> bool:
    """Whether the keys of a body agree in number, and its prompts fit."""
    body = case.body
    if not isinstance(body, dict):
        return True
    try:
        return _agrees(body) and _size(body) <= TOKENS
    except TypeError:  # it is of a wrong kind, which is refused whatever else it says
        return True


def _agrees(body: Mapping[str, Any]) -> bool:
    n = body.get("n") or 1
    candidates = body.get("best_of") or n
    prompt = body.get("prompt") or ""
    prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    lengths = (body.get("max_completion_tokens"), body.get("max_tokens"), 16)
    longest = next(length for length in lengths if length is not None)
    return not (
        candidates < n
        or (candidates > n and body.get("stream"))
        or (body.get("min_tokens") or 0) > max(longest, 1)
        or candidates * prompts > TEXTS
    )


def _size(value: Any) -> int:
    """Return the bytes of all texts, and the number of all ids, in a body."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return (
            sum(
                _size(value[key])
                for key in ("prompt", "messages", "content", "text", "role")
                if key in value
            )
            + 4
        )
    return sum(map(_size, value)) if isinstance(value, list) else 1
