"""Responses of /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from typing_extensions import override

from gpt2dsl.engine.generation.continuation import TokenScore
from gpt2dsl.engine.generation.row import Row, bytes_named
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.serve import documents
from gpt2dsl.serve.answer import AnswerFormatter
from gpt2dsl.serve.rows import copies
from gpt2dsl.serve.schema.chat import ChatRequest, Template
from gpt2dsl.serve.template import ChatTemplate
from gpt2dsl.serve.texts import Span


class ChatFormatter(AnswerFormatter):
    """The document format of /v1/chat/completions."""

    def __init__(self, model: str, body: ChatRequest) -> None:
        self._body = body
        head = {
            "id": documents.new_id("chatcmpl"),
            "created": documents.now(),
            "model": model,
        }
        self.head = head | {"object": "chat.completion"}
        self.stream_head = head | {"object": "chat.completion.chunk"}

    @override
    def start(self, row: Row) -> int:
        return 0

    @override
    def opening(self, index: int, row: Row) -> documents.ChatChunkChoice:
        delta: documents.Delta = {"role": "assistant", "content": "", "refusal": None}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    @override
    def piece(self, index: int, row: Row, span: Span) -> documents.ChatChunkChoice:
        return {
            "index": index,
            "delta": {"content": span.text} if span.text else {},
            "logprobs": self._logprobs(span),
            "finish_reason": span.finish,  # type: ignore[typeddict-item]
        }

    @override
    def complete(self, index: int, row: Row, span: Span) -> documents.ChatChoice:
        return {
            "index": index,
            "message": {"role": "assistant", "content": span.text, "refusal": None},
            "logprobs": self._logprobs(span),
            "finish_reason": span.finish,  # type: ignore[typeddict-item]
        }

    def _best(self, score: TokenScore) -> Iterable[tuple[str, float]]:
        """Return the ``top_logprobs`` likeliest tokens, which may not include the chosen one."""
        return islice(score.best.items(), self._body.top_logprobs)

    def _logprobs(self, span: Span) -> documents.ChatLogprobs | None:
        if not self._body.logprobs:
            return None
        return {
            "content": [
                {
                    **_token(score.token, score.logprob),
                    "top_logprobs": [_token(name, value) for name, value in self._best(score)],
                }
                for score in span.scores
                if score is not None
            ],
            "refusal": None,
        }


def _token(name: str, logprob: float) -> documents.TopLogprob:
    content = bytes_named(name)
    return {"token": name, "logprob": logprob, "bytes": None if content is None else list(content)}


def rows(model: LanguageModel, template: ChatTemplate, body: ChatRequest) -> Sequence[Row]:
    """Return the rows of a chat.

    Raises:
        ApiError: the template rejects its messages.
        SpecError: a value is invalid.
    """
    return list(copies(model, body, model.tokenizer.encode(text(template, body), special=False)))


def text(template: ChatTemplate, body: Template) -> str:
    """Return the prompt text of a chat."""
    messages = [message.as_template_sees_it() for message in body.messages]
    return template.render(
        messages, prompts=body.begins_answer, continues=body.continue_final_message
    )
