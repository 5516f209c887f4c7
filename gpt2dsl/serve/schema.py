"""What /v1/completions takes: the keys of OpenAI's API, and those of ours that it lacks."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from gpt2dsl.parts import Generation

_OF_WEIGHTS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "typical_p": "typical_p", "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size", "min_tokens": "min_new_tokens",
}  # fmt: skip
"""Key of a request → key of ``[generation]``, where the weights' files say what it leaves out."""

Ids = list[Annotated[int, Field(ge=0)]]


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class CompletionRequest(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    prompt: str | list[str] | Ids | list[Ids] = ""
    max_tokens: int = Field(16, ge=1)
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, ge=0, le=1)
    n: int = Field(1, ge=1, le=128)
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    stop: str | list[str] | None = None
    seed: int | None = None
    user: str | None = None

    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    typical_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, allow_inf_nan=False)
    no_repeat_ngram_size: int = Field(0, ge=0)
    min_tokens: int = Field(0, ge=0)

    best_of: int | None = None
    suffix: str | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] | None = None

    @property
    def refused(self) -> str:
        """The key that asks for what is not built here; "" where none does."""
        asked = {
            "best_of": self.best_of not in (None, self.n),
            "suffix": bool(self.suffix),
            "presence_penalty": self.presence_penalty != 0,
            "frequency_penalty": self.frequency_penalty != 0,
            "logit_bias": bool(self.logit_bias),
            "logprobs with stream": self.stream and self.logprobs is not None,
            "logprobs with echo": self.echo and self.logprobs is not None,
        }
        return next((key for key, is_asked in asked.items() if is_asked), "")

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [one for one in self.prompt if isinstance(one, int)]
        return [ids] if ids else [one for one in self.prompt if not isinstance(one, int)]

    @property
    def stops(self) -> list[str]:
        """The texts before which a text is cut."""
        return [self.stop] if isinstance(self.stop, str) else (self.stop or [])

    def generation(self) -> Generation:
        """As ``[generation]`` says it; temperature 0 and top_p 0 take the best token.

        ``max_tokens`` and ``n`` have OpenAI's defaults; what else is left out the weights'
        generation_config.json says, as for vLLM, and then OpenAI's defaults hold.

        Raises:
            SpecError: a value is wrong.
        """
        greedy = self.temperature == 0 or self.top_p == 0
        seed = secrets.randbelow(2**32) if self.seed is None else self.seed % 2**32
        more: dict[str, Any] = {"stop_strings": self.stops} if self.stops else {}
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
