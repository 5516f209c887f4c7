"""Answers of /v1/completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from gpt2dsl.engine.generation.continuation import TokenScore
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.serve import documents
from gpt2dsl.serve.answer import Form
from gpt2dsl.serve.rows import copies
from gpt2dsl.serve.schema.completions import CompletionRequest
from gpt2dsl.serve.texts import Span


class CompletionForm(Form):
    """How /v1/completions writes its answers.

    Args:
        model: the name of the model.
        body: of the request.
    """

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
        if not self._body.echo:
            return None
        return self.piece(index, Span(row.request.prompt))

    @override
    def piece(self, index: int, span: Span) -> documents.CompletionChoice:
        is_scored = self._body.logprobs is not None
        return {
            "index": index,
            "text": span.text,
            "logprobs": logprobs(span) if is_scored else None,
            "finish_reason": span.finish,  # type: ignore[typeddict-item]
        }

    @override
    def whole(self, index: int, row: Row, span: Span) -> documents.CompletionChoice:
        choice = self.piece(index, span)
        if self._body.echo:
            choice["text"] = row.request.prompt + span.text
        return choice


def logprobs(span: Span) -> documents.Logprobs:
    """Return the log-probabilities of tokens; the best ones include the token itself."""
    return {
        "tokens": [score.token for score in span.scores],
        "token_logprobs": [score.logprob for score in span.scores],
        "top_logprobs": [_best(score) for score in span.scores],
        "text_offset": list(span.offsets),
    }


def _best(score: TokenScore) -> dict[str, float]:
    return {**score.best, score.token: score.logprob}


def rows(model: LanguageModel, body: CompletionRequest) -> Sequence[Row]:
    """Return the rows of a request: its candidates for each prompt.

    Raises:
        SpecError: a value or a prompt can't be.
    """
    return [
        row
        for number, prompt in enumerate(body.prompts)
        for row in copies(model, body, prompt, number)
    ]
