"""Response documents and their types, which /openapi.json describes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from typing_extensions import NotRequired, TypedDict

from gpt2dsl.data.documents import dumps
from gpt2dsl.engine.generation.row import Row

PIECE = 4096
"""Tokens serialized at once, since serialization holds the GIL."""

FinishReason = Literal["stop", "length"]


class Usage(TypedDict):
    """The tokens of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Logprobs(TypedDict):
    """Log-probabilities of a text's tokens; null at the first token of an echoed prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(TypedDict):
    """A text, or a piece of one."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class Completion(TypedDict):
    """An answer of /v1/completions, or an event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: NotRequired[Usage | None]


class TopLogprob(TypedDict):
    """A token that may stand in a place."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatLogprob(TopLogprob):
    """A token that stands there, and the most likely ones."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """Log-probabilities of a message's tokens."""

    content: list[ChatLogprob]
    refusal: None


class AssistantMessage(TypedDict):
    """A message of the model."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """A message."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class Chat(TypedDict):
    """An answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(TypedDict):
    """What a message grows by: who speaks comes first, and nothing where it only ends."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    refusal: NotRequired[None]


class ChatChunkChoice(TypedDict):
    """A piece of a message."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(TypedDict):
    """An event of the stream of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[Usage | None]


class Model(TypedDict):
    """A model that is served; ``root`` says where it is, ``parent`` is an adapter's base."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int | None


class Models(TypedDict):
    """The models that are served."""

    object: Literal["list"]
    data: list[Model]


class Health(TypedDict):
    """How a server is."""

    status: Literal["ok", "loading", "stopping", "down"]
    running: int
    waiting: int


class Version(TypedDict):
    """The version of gpt2dsl."""

    version: str


class Tokens(TypedDict):
    """The tokens of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(TypedDict):
    """The text of tokens."""

    prompt: str


def new_id(prefix: str) -> str:
    """Return a unique id for an answer."""
    return f"{prefix}-{uuid.uuid4().hex}"


def now() -> int:
    """Return Unix time in whole seconds."""
    return int(time.time())


def usage(rows: Sequence[Row], prompt_tokens: int) -> Usage:
    """Return the token usage of an answer, each of its prompts counted once."""
    generated = sum(len(row.generated) for row in rows)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": prompt_tokens + generated,
    }


def tokens(
    head: Mapping[str, Any],
    ids: Sequence[int],
    strings: Callable[[Sequence[int]], list[str]] | None,
) -> str:
    """Return the JSON of ``Tokens``, serialized in pieces so that other threads can run between.

    ``strings`` maps ids to vocabulary entries; None if they were not requested.
    """
    named = f"[{_listed(map(strings, _pieces(ids)))}]" if strings else "null"
    begin = dumps(head)[:-1]
    return f'{begin}, "tokens": [{_listed(_pieces(ids))}], "token_strs": {named}}}'


def _pieces(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[start : start + PIECE] for start in range(0, len(ids), PIECE))


def _listed(pieces: Iterable[Sequence[Any]]) -> str:
    return ", ".join(dumps(piece)[1:-1] for piece in pieces)


def event(document: Mapping[str, Any]) -> str:
    """Return a document as a server-sent event."""
    return f"data: {dumps(document)}\n\n"
