"""What the server answers, as OpenAI's API has it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.generation.text import Pieces

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


def model(name: str) -> Document:
    """Describe the model that is served."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "gpt2dsl"}


def choice(index: int, text: str, row: Row | None = None, *, scored: bool = False) -> Document:
    """A text, or a piece of one; with ``row`` it is over."""
    return {
        "index": index,
        "text": text,
        "logprobs": _logprobs(row, len(text)) if row and scored else None,
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


def _logprobs(row: Row, size: int) -> Document:
    """Describe the tokens of a text; those that are cut off with a stop string are left out.

    Args:
        row: the text.
        size: characters of it that are told.
    """
    pieces = Pieces(row.request.tokenizer)
    ends = accumulate((len(pieces.add([i])) for i in row.generated), initial=0)
    offsets = list(ends)[:-1]
    told = sum(offset < size for offset in offsets) if row.ended == "stop" else len(offsets)
    scores = row.scores[:told]
    return {
        "tokens": [score.token for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [score.best for score in scores],
        "text_offset": offsets[:told],
    }
