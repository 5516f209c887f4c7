"""Keys of generation that are common to all endpoints."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from gpt2dsl.parts import Generation
from gpt2dsl.parts.rules import LARGEST
from gpt2dsl.serve.schema.base import Anything, Body, Shaped

COLD = 1e-6
"""Temperature below which decoding is greedy, as sampling is in double precision."""

MOST_BIASES = 1024
"""Maximum entries of ``logit_bias``."""

_OF_WEIGHTS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "typical_p": "typical_p", "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size", "min_tokens": "min_new_tokens",
}  # fmt: skip
"""Key of a request → key of ``[generation]`` whose default comes from the weights' files."""


def _stops(value: Any) -> list[str]:
    """Return the stop strings as a list, validated."""
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or set(map(type, stops)) - {str}:
        raise ValueError("expected a text, or a list of texts")
    if "" in stops:
        raise ValueError("a text is empty")
    return stops


_STOP: dict[str, Any] = {"type": "string", "minLength": 1}
Stops = Annotated[list[str], Shaped(_stops, {"anyOf": [_STOP, {"type": "array", "items": _STOP}]})]


def _biases(value: Any) -> dict[int, float]:
    """Return token id → bias, validated."""
    if not isinstance(value, dict):
        raise ValueError("expected a table of ids")  # noqa: TRY004
    if len(value) > MOST_BIASES:
        raise ValueError(f"{len(value)} ids are more than {MOST_BIASES}")
    for token, bias in value.items():
        if not re.fullmatch(_ID, token):
            raise ValueError(f"{token!r:.40} is no id")
        if type(bias) not in (int, float) or not -100 <= bias <= 100:
            raise ValueError(f"{token}: expected a number from -100 to 100, found {bias!r:.40}")
    return {int(token): float(bias) for token, bias in value.items()}


_ID = r"0|[1-9][0-9]{0,8}"
_BIASES = {
    "type": "object",
    "patternProperties": {f"^({_ID})$": {"type": "number", "minimum": -100, "maximum": 100}},
    "additionalProperties": False,
    "maxProperties": MOST_BIASES,
}


class StreamOptions(Body):
    """How a stream ends."""

    include_usage: bool = False
    include_obfuscation: Anything = None


class Sampling(Body):
    """The keys that completions and chats share."""

    model: str | None = None
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, ge=0, le=1)
    n: int = Field(1, ge=1, le=128)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    stop: Stops = Field([])
    seed: int | None = None
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    logit_bias: Annotated[dict[int, float], Shaped(_biases, _BIASES)] = Field({})

    top_k: int = Field(0, ge=0, le=LARGEST)
    min_p: float = Field(0.0, ge=0, le=1)
    typical_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: float = Field(1.0, ge=1e-6, le=1e6)
    no_repeat_ngram_size: int = Field(0, ge=0, le=LARGEST)
    min_tokens: int = Field(0, ge=0, le=LARGEST)

    metadata: Anything = None
    prompt_cache_key: Anything = None
    prompt_cache_options: Anything = None
    prompt_cache_retention: Anything = None
    safety_identifier: Anything = None
    service_tier: Anything = None
    store: Anything = None
    user: Anything = None

    @property
    def longest(self) -> int | None:
        """Maximum tokens of a text; None for as many as fit."""
        raise NotImplementedError

    @property
    def best_tokens(self) -> int | None:
        """Number of top log-probabilities per token; None for no log-probabilities."""
        raise NotImplementedError

    @property
    def scores_prompt(self) -> bool:
        """Whether prompt tokens have log-probabilities too."""
        return False

    @property
    def candidates(self) -> int:
        """Number of texts generated for each prompt."""
        return self.n

    @property
    def stops(self) -> Sequence[str]:
        return list(self.stop)

    def generation(self, room: int) -> Generation:
        """Return the equivalent ``[generation]``; temperature 0 or top_p 0 means greedy decoding.

        Length and ``n`` have OpenAI's defaults. As in vLLM, other absent keys default to the
        weights' generation_config.json, then to OpenAI's defaults. ``room`` is the number of tokens
        that fit after the prompt.

        Raises:
            SpecError: a value is invalid.
        """
        greedy = self.temperature < COLD or self.top_p == 0
        options: dict[str, Any] = {"stop_strings": self.stops} if self.stops else {}
        for key in self.model_fields_set & _OF_WEIGHTS.keys():
            value = getattr(self, key)
            if not (greedy and key in ("temperature", "top_p")):
                options[_OF_WEIGHTS[key]] = value
        if biases := [[[i], bias] for i, bias in self.logit_bias.items() if bias]:
            options["sequence_bias"] = biases
        return Generation(
            max_new_tokens=room if self.longest is None else max(1, self.longest),
            do_sample=not greedy,
            beams=1,
            num_return_sequences=1,
            logprobs=self.best_tokens,
            seed=secrets.randbelow(2**32) if self.seed is None else self.seed % 2**32,
            **options,
        )
