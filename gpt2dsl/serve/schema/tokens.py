"""The bodies of /tokenize and /detokenize, as in vLLM."""

from __future__ import annotations

from typing import Annotated

from gpt2dsl.serve.schema.base import Body, Shaped
from gpt2dsl.serve.schema.chat import Template
from gpt2dsl.serve.schema.completions import IDS, checked_ids


class TokenizeOptions(Body):
    """What both kinds of requests for tokens say."""

    model: str | None = None
    return_token_strs: bool = False


class TokenizeRequest(TokenizeOptions):
    """A text whose tokens are asked for."""

    prompt: str
    add_special_tokens: bool = True


class TokenizeChatRequest(TokenizeOptions, Template):
    """A chat whose tokens are asked for."""

    add_special_tokens: bool = False


class DetokenizeRequest(Body):
    """Tokens whose text is asked for."""

    model: str | None = None
    tokens: Annotated[list[int], Shaped(checked_ids, IDS)]
