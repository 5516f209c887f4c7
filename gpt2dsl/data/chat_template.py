"""The chat templates among the files of a tokenizer; they take precedence as in transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gpt2dsl.data import tokenizer_files

_FILE = "chat_template.jinja"
_KEY = "chat_template"
DEFAULT = "default"
"""The name of the template that a chat without tools uses."""


def templates(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the templates of a tokenizer by name.

    Args:
        files: of it, as ``tokenizer_files.kept`` reads them.
    """
    extra = f"{tokenizer_files.TEMPLATES}/"
    own = {DEFAULT: files[_FILE]} if _FILE in files else {}
    own |= {
        name.removeprefix(extra).removesuffix(".jinja"): content
        for name, content in files.items()
        if name.startswith(extra)
    }
    if own:
        return {name: content.decode("utf-8") for name, content in own.items()}
    for name in (tokenizer_files.SETTINGS, "chat_template.json"):
        written = json.loads(files.get(name, b"{}")).get(_KEY)
        if isinstance(written, str):
            return {DEFAULT: written}
        if isinstance(written, list):
            return {template["name"]: template["template"] for template in written}
        if isinstance(written, dict):
            return dict(written)
    return {}
