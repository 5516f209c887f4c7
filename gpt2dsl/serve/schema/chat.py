"""The body of /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self, override

from gpt2dsl.serve.schema.base import Anything, Body, Neutral
from gpt2dsl.serve.schema.sampling import Sampling

MOST_MESSAGES = 1000
"""Messages of a chat."""


class TextPart(Body):
    """A part of a message; others than texts are not supported."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Anything = None


class Message(Body):
    """A message of a chat."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[TextPart] = ""
    name: str | None = None
    refusal: Annotated[Any, Neutral()] = None
    audio: Annotated[Any, Neutral()] = None
    tool_calls: Annotated[Any, Neutral([])] = None
    function_call: Annotated[Any, Neutral()] = None
    tool_call_id: Annotated[Any, Neutral()] = None

    def as_template_sees_it(self) -> dict[str, Any]:
        """Return the message with its text joined: templates of text models add texts."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        message: dict[str, Any] = {"role": self.role, "content": text}
        return message if self.name is None else message | {"name": self.name}


class Template(Body):
    """How messages become the text that is continued; the last two keys are vLLM's."""

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    add_generation_prompt: bool = True
    continue_final_message: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.continue_final_message and self.add_generation_prompt:
            message = "say add_generation_prompt = false: the last message goes on, none begins"
            raise ValueError(f"continue_final_message: {message}")
        return self


class ChatRequest(Sampling, Template):
    """A chat that is to be continued, and how."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)

    audio: Annotated[Any, Neutral()] = None
    function_call: Annotated[Any, Neutral("none", "auto")] = "none"
    functions: Annotated[Any, Neutral([])] = None
    moderation: Annotated[Any, Neutral()] = None
    modalities: Annotated[Any, Neutral(["text"])] = None
    parallel_tool_calls: bool = True
    prediction: Annotated[Any, Neutral()] = None
    reasoning_effort: Annotated[Any, Neutral("none")] = None
    response_format: Annotated[Any, Neutral({"type": "text"})] = None
    tool_choice: Annotated[Any, Neutral("none", "auto")] = "none"
    tools: Annotated[Any, Neutral([])] = None
    verbosity: Annotated[Any, Neutral("medium")] = None
    web_search_options: Annotated[Any, Neutral()] = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: say logprobs = true")
        return self

    @property
    @override
    def longest(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    @override
    def best_tokens(self) -> int | None:
        return self.top_logprobs if self.logprobs else None
