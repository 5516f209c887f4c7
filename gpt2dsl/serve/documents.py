"""What the server answers, as OpenAI's API has it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from gpt2dsl.engine.generation.continuation import TokenScore
from gpt2dsl.engine.generation.row import Row

Document = dict[str, Any]


def head(model: str) -> Document:
    """What all documents of one answer begin with."""
    made = int(time.time())
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": made,
        "model": model,
    }


def choice(index: int, text: str, row: Row | None = None, *, scored: bool = False) -> Document:
    """A text, or a piece of one; with ``row`` it is over."""
    scores = row.continuation().scores if row and scored else None
    return {
        "index": index,
        "text": text,
        "logprobs": None if scores is None else _logprobs(scores),
        "finish_reason": _reason(row) if row else None,
    }


def usage(rows: Sequence[Row], prompts: int) -> Document:
    """The tokens of an answer.

    Args:
        rows: its texts.
        prompts: tokens of its prompts, each counted once.
    """
    generated = sum(len(row.generated) for row in rows)
    return {
        "prompt_tokens": prompts,
        "completion_tokens": generated,
        "total_tokens": prompts + generated,
    }


def error(message: str, *, code: str | None = None, server: bool = False) -> Document:
    """Why there is no answer."""
    kind = "server_error" if server else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _reason(row: Row) -> str:
    return "stop" if row.ended in ("eos", "stop") else "length"


def _logprobs(scores: Sequence[TokenScore]) -> Document:
    starts, at = [], 0
    for score in scores:
        starts.append(at)
        at += len(score.token)
    return {
        "tokens": [score.token for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [score.best for score in scores],
        "text_offset": starts,
    }
