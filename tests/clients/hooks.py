"""What schemathesis leaves out: keys of which each may be, and which contradict each other."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook  # type: ignore[untyped-decorator]
def filter_body(_: Any, body: Any) -> bool:
    """Whether no two keys of a body contradict each other."""
    if not isinstance(body, dict):
        return True
    try:
        n = body.get("n") or 1
        candidates = body.get("best_of") or n
        longest = body.get("max_completion_tokens") or body.get("max_tokens") or 16
        return not (
            candidates < n
            or (candidates > n and body.get("stream"))
            or (body.get("min_tokens") or 0) > longest
            or (body.get("top_logprobs") and not body.get("logprobs"))
            or (body.get("continue_final_message") and body.get("add_generation_prompt"))
            or candidates * len(body.get("prompt") or ".") > 136
        )
    except TypeError:
        return True
