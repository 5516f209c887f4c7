"""Chats as texts: the template of a tokenizer, rendered as transformers renders it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from gpt2dsl.data.chat_environment import environment
from gpt2dsl.serve.errors import ApiError

_CUT = "CONTINUE_FINAL_MESSAGE_TAG "


class ChatTemplate:
    """Turns messages into the text that is continued.

    Args:
        source: in Jinja; it runs in a sandbox.
        tokens: special tokens by key: ``bos_token`` and the like.

    Raises:
        jinja2.TemplateSyntaxError: it is no template.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        sandbox = environment()
        sandbox.filters["tojson"] = _to_json
        sandbox.globals |= {"raise_exception": _raise, "strftime_now": _now}
        self._template = sandbox.from_string(source)
        self._tokens = dict(tokens)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, prompts: bool, continues: bool
    ) -> str:
        """Return the text of a chat.

        Args:
            messages: the chat.
            prompts: whether the beginning of an answer is put after it.
            continues: whether the last message is left open, to be continued.

        Raises:
            ApiError: the template refuses these messages.
        """
        chat = [dict(message) for message in messages]
        if continues:
            chat[-1]["content"] += _CUT
        try:
            text = self._template.render(
                messages=chat,
                tools=None,
                documents=None,
                add_generation_prompt=prompts,
                **self._tokens,
            )
        except Exception as error:  # noqa: BLE001  # a template is a program of somebody's
            message = f"messages: the chat template refuses them: {error}"[:500]
            raise ApiError(400, message, param="messages") from None
        return _open(text, str(messages[-1]["content"])) if continues else text


def _open(text: str, last: str) -> str:
    """Cut a text where its last message ends; trimmed there, if the template trims messages."""
    mark = _CUT.strip()
    if mark not in text or last.strip() not in text:
        message = "continue_final_message: the chat template changes the last message"
        raise ApiError(400, message, param="continue_final_message")
    place = text.rindex(mark)
    is_kept = text[place : place + len(_CUT)] == _CUT
    return text[:place] if is_kept else text[:place].rstrip()


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # templates give it by place
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # as above
) -> str:
    """Return JSON without the escapes of HTML that Jinja's own filter adds."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return dt.datetime.now().strftime(form)  # noqa: DTZ005  # as in transformers: local, without a zone
