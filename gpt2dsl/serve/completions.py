"""Responses of /v1/completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.serve import documents
from gpt2dsl.serve.answer import AnswerFormatter
from gpt2dsl.serve.rows import copies
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.serve.texts import Span, echoed


class CompletionFormatter(AnswerFormatter):
    """The document format of /v1/completions."""

    def __init__(self, model: str, body: CompletionRequest) -> None:
        self._body = body
        self.head = self.stream_head = {
            "id": documents.new_id("cmpl"),
            "object": "text_completion",
            "created": documents.now(),
            "model": model,
        }

    @override
    def start(self, row: Row) -> int:
        return len(row.request.prompt) if self._body.echo else 0

    @override
    def opening(self, index: int, row: Row) -> Mapping[str, Any] | None:
        return self._choice(index, row, echoed(row)) if self._body.echo else None

    @override
    def piece(self, index: int, row: Row, span: Span) -> Mapping[str, Any]:
        return self._choice(index, row, span)

    @override
    def complete(self, index: int, row: Row, span: Span) -> Mapping[str, Any]:
        choice = self._choice(index, row, span)
        if self._body.echo:
            before = self._choice(index, row, echoed(row))
            choice["text"] = before["text"] + choice["text"]
            choice["logprobs"] = _joined(before["logprobs"], choice["logprobs"])
        return choice

    def _choice(self, index: int, row: Row, span: Span) -> documents.CompletionChoice:
        return {
            "index": index,
            "text": span.text,
            "logprobs": None if self._body.logprobs is None else _logprobs(row, span),
            "finish_reason": span.finish,  # type: ignore[typeddict-item]
        }


def _logprobs(row: Row, span: Span) -> documents.Logprobs:
    """Return the log-probabilities of tokens; ``top_logprobs`` include the token itself."""
    return {
        "tokens": [row.name(token) for token in span.ids],
        "token_logprobs": [score.logprob if score else None for score in span.scores],
        "top_logprobs": [score.best if score else None for score in span.scores],
        "text_offset": list(span.offsets),
    }


def _joined(
    first: documents.Logprobs | None, second: documents.Logprobs | None
) -> documents.Logprobs | None:
    """Concatenate the log-probabilities of a prompt and of its continuation."""
    if first is None or second is None:
        return None
    return {
        "tokens": first["tokens"] + second["tokens"],
        "token_logprobs": first["token_logprobs"] + second["token_logprobs"],
        "top_logprobs": first["top_logprobs"] + second["top_logprobs"],
        "text_offset": first["text_offset"] + second["text_offset"],
    }


def rows(model: LanguageModel, body: CompletionRequest) -> Sequence[Row]:
    """Return the rows of a request: its candidates for each prompt.

    Raises:
        SpecError: a value or a prompt is invalid.
    """
    return [
        row
        for number, prompt in enumerate(body.prompts)
        for row in copies(model, body, prompt, number)
    ]
