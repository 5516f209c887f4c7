"""The body of /v1/completions."""

from __future__ import annotations

import itertools
import json
from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import Self, override

from gpt2dsl.parts.rules import LARGEST
from gpt2dsl.serve.schema.base import Neutral, Shaped, as_integer
from gpt2dsl.serve.schema.sampling import Sampling

Prompt = str | list[int]
"""A text or its token ids."""


def each_prompt(value: Any) -> list[Prompt]:
    """Return a list of prompts; [] is a single empty prompt, as are [[]] and ""."""
    if isinstance(value, str):
        return [value]
    kinds = set(map(type, value)) if isinstance(value, list) else {dict}
    if kinds == {str}:
        return list(value)
    if kinds == {list}:
        return [checked_ids(prompt) for prompt in value]
    if kinds & {str, list, dict}:
        expected = "a text, texts, the ids of a text, or lists of ids"
        # Incrementally, since serializing a large value would hold the GIL for long.
        start = "".join(itertools.islice(json.JSONEncoder().iterencode(value), 40))
        raise ValueError(f"expected {expected}, found {start:.40}")
    return [checked_ids(value)]


def checked_ids(value: list[Any]) -> list[int]:
    """Return a list of token ids, validated."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list of ids, found {type(value).__name__}")  # noqa: TRY004
    ids = list(map(as_integer, value)) if float in map(type, value) else value
    for kind in set(map(type, ids)) - {int}:
        raise ValueError(f"ids are integers, found {kind.__name__}")
    if min(ids, default=0) < 0:
        raise ValueError(f"{min(ids)} is no id: they begin at 0")
    return ids


IDS = {"type": "array", "items": {"$ref": "#/components/schemas/TokenId"}}
"""Schema of a list of token ids."""

_ANY_PROMPT = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        IDS,
        {"type": "array", "items": IDS},
    ]
}


class CompletionRequest(Sampling):
    """What is to be completed, and how."""

    prompts: Annotated[list[Prompt], Shaped(each_prompt, _ANY_PROMPT)] = Field([""], alias="prompt")
    max_tokens: int = Field(16, ge=0, le=LARGEST)
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool = False
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    suffix: Annotated[Any, Neutral("")] = ""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of: {self.best_of} texts have no {self.n} best ones (n)")
        if self.candidates > self.n and self.stream:
            raise ValueError("best_of: which texts are best is known at their end; no stream then")
        return self

    @property
    @override
    def longest(self) -> int:
        return self.max_tokens

    @property
    @override
    def best_tokens(self) -> int | None:
        return 0 if self.candidates > self.n and self.logprobs is None else self.logprobs

    @property
    @override
    def scores_prompt(self) -> bool:
        return self.echo and self.logprobs is not None

    @property
    @override
    def candidates(self) -> int:
        return self.n if self.best_of is None else self.best_of
