"""Chat templates, rendered as in transformers."""

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
    """A chat template, which renders messages into a prompt; its Jinja source runs in a sandbox.

    Raises:
        jinja2.TemplateSyntaxError: the source is not a valid template.
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
        """Return the prompt text of a chat.

        Args:
            messages: the messages of the chat.
            prompts: append the beginning of an answer.
            continues: leave the last message open, to be continued.

        Raises:
            ApiError: the template rejects these messages.
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
        except Exception as error:  # noqa: BLE001  # a template is third-party code
            message = f"messages: the chat template refuses them: {error}"[:500]
            raise ApiError(400, message, param="messages") from None
        return _open(text, str(messages[-1]["content"])) if continues else text


def _open(text: str, last: str) -> str:
    """Cut a text at the end of its last message, trimmed if the template trims messages."""
    mark = _CUT.strip()
    if mark not in text or last.strip() not in text:
        message = "continue_final_message: the chat template changes the last message"
        raise ApiError(400, message, param="continue_final_message")
    end = text.rindex(mark)
    is_kept = text[end : end + len(_CUT)] == _CUT
    return text[:end] if is_kept else text[:end].rstrip()


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # templates pass it by position
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # as above
) -> str:
    """Return JSON without the HTML escapes that Jinja's own filter adds."""
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
    return dt.datetime.now().strftime(form)  # noqa: DTZ005  # as in transformers: local time without a zone
