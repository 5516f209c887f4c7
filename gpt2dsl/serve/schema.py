"""What /v1/completions takes: the keys of OpenAI's API, and those of ours that it lacks."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from gpt2dsl.parts import Generation

Prompt = str | list[int]
"""A text, or the ids of its tokens."""

_OF_WEIGHTS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "typical_p": "typical_p", "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size", "min_tokens": "min_new_tokens",
}  # fmt: skip
"""Key of a request → key of ``[generation]``, where the weights' files say what it leaves out."""


def _prompts(value: Any) -> list[Prompt]:
    """Return the prompts one by one; a list without any is an empty one, as [[]] and "" are.

    Values are looked at here: pydantic would tell of each id why it is no text.
    """
    if isinstance(value, str):
        return [value]
    kinds = set(map(type, value)) if isinstance(value, list) else {dict}
    if kinds == {str}:
        return list(value)
    if kinds == {list}:
        return [_ids(prompt) for prompt in value]
    if kinds & {str, list, dict}:
        expected = "a text, texts, the ids of a text, or lists of ids"
        raise ValueError(f"expected {expected}, found {json.dumps(value):.40}")
    return [_ids(value)]


def _ids(ids: list[Any]) -> list[int]:
    for kind in set(map(type, ids)) - {int}:
        raise ValueError(f"ids are integers, found {kind.__name__}")
    if min(ids, default=0) < 0:
        raise ValueError(f"{min(ids)} is no id: they begin at 0")
    return ids


class Body(BaseModel):
    """A table of keys; a key that is null counts as absent."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        return {key: value for key, value in body.items() if value is not None}


class StreamOptions(Body):
    """How a stream ends."""

    include_usage: bool = False
    include_obfuscation: Any = None


class CompletionRequest(Body):
    """The body of a request."""

    model: str
    prompts: Annotated[list[Prompt], PlainValidator(_prompts)] = Field([""], alias="prompt")
    max_tokens: int = Field(16, ge=1)
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, ge=0, le=1)
    n: int = Field(1, ge=1, le=128)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    stop: str | list[str] = []
    seed: int | None = None

    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    typical_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, allow_inf_nan=False)
    no_repeat_ngram_size: int = Field(0, ge=0)
    min_tokens: int = Field(0, ge=0)

    best_of: int | None = None
    suffix: str = ""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] = {}

    metadata: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    user: Any = None

    @property
    def refused(self) -> str:
        """The key that asks for what is not built here; "" where none does."""
        asked = {
            "best_of": self.best_of not in (None, self.n),
            "suffix": bool(self.suffix),
            "presence_penalty": self.presence_penalty != 0,
            "frequency_penalty": self.frequency_penalty != 0,
            "logit_bias": any(self.logit_bias.values()),
            "logprobs with stream": self.stream and self.logprobs is not None,
            "logprobs with echo": self.echo and self.logprobs is not None,
        }
        return next((key for key, is_asked in asked.items() if is_asked), "")

    @property
    def stops(self) -> Sequence[str]:
        """The texts before which a text is cut."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def generation(self) -> Generation:
        """As ``[generation]`` says it; temperature 0 and top_p 0 take the best token.

        ``max_tokens`` and ``n`` have OpenAI's defaults; what else is left out the weights'
        generation_config.json says, as for vLLM, and then OpenAI's defaults hold.

        Raises:
            SpecError: a value is wrong.
        """
        greedy = self.temperature == 0 or self.top_p == 0
        seed = secrets.randbelow(2**32) if self.seed is None else self.seed % 2**32
        more: dict[str, Any] = {"stop_strings": list(self.stops)} if self.stops else {}
        for key in self.model_fields_set & _OF_WEIGHTS.keys():
            value = getattr(self, key)
            if value is not None and not (greedy and key in ("temperature", "top_p")):
                more[_OF_WEIGHTS[key]] = value
        return Generation(
            max_new_tokens=self.max_tokens,
            do_sample=not greedy,
            beams=1,
            num_return_sequences=1,
            logprobs=self.logprobs,
            seed=seed,
            **more,
        )
