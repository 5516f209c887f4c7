"""The body of /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import FailFast, Field, model_validator
from typing_extensions import Self, override

from gpt2dsl.parts.rules import LARGEST
from gpt2dsl.serve.schema.base import NULL, Body, Demands, Neutral, Shaped, neutral, without_nulls
from gpt2dsl.serve.schema.sampling import Sampling

MOST_MESSAGES = 1000
"""Maximum messages of a chat."""


_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
    "additionalProperties": NULL,
}
_CONTENT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}


def joined(content: Any) -> str:
    """Return the text of a message, its parts concatenated as templates of text models do."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("expected a text, or a list of parts")  # noqa: TRY004
    return "".join(map(_text_of, content))


def _text_of(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text":
        raise ValueError(f"only parts of type text are supported, found {kind!r:.40}")
    if unknown := without_nulls(part).keys() - {"type", "text"}:
        raise ValueError(f"{min(unknown):.40}: not supported here")
    if not isinstance(part.get("text"), str):
        raise ValueError("a part of type text has a text")  # noqa: TRY004
    return str(part["text"])


class Message(Body):
    """A message of a chat."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: Annotated[str, Shaped(joined, _CONTENT)] = ""
    name: str | None = None
    refusal: Annotated[Any, Neutral()] = None
    audio: Annotated[Any, Neutral()] = None
    tool_calls: Annotated[Any, Neutral([])] = None
    function_call: Annotated[Any, Neutral()] = None
    tool_call_id: Annotated[Any, Neutral()] = None

    def as_template_sees_it(self) -> dict[str, Any]:
        """Return the keys that a template may read."""
        message = {"role": self.role, "content": self.content}
        return message if self.name is None else message | {"name": self.name}


class Template(Body):
    """How messages become the text that is continued; the last two keys are vLLM's."""

    DEMANDS: ClassVar[Demands] = {
        "continue_final_message": {
            "anyOf": [
                neutral("continue_final_message", False),
                neutral("add_generation_prompt", False),
            ]
        }
    }

    # Otherwise the faults of all messages are collected, although only one is reported.
    messages: Annotated[list[Message], FailFast()] = Field(min_length=1, max_length=MOST_MESSAGES)
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.continue_final_message and self.add_generation_prompt:
            message = "the last message goes on, so that no other one begins"
            raise ValueError(f"continue_final_message: {message} (add_generation_prompt)")
        return self

    @property
    def begins_answer(self) -> bool:
        """Whether the prompt ends with the beginning of an answer."""
        asked = self.add_generation_prompt
        return not self.continue_final_message if asked is None else asked


class ChatRequest(Sampling, Template):
    """A chat that is to be continued, and how."""

    DEMANDS: ClassVar[Demands] = {
        "top_logprobs": {
            "anyOf": [
                neutral("top_logprobs", 0),
                {"properties": {"logprobs": {"const": True}}, "required": ["logprobs"]},
            ]
        }
    }

    max_tokens: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
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
