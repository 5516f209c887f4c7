"""Chat templates among a tokenizer's files, with the precedence of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gpt2dsl.data import tokenizer_files
from gpt2dsl.errors import InputError

_FILE = "chat_template.jinja"
_KEY = "chat_template"
DEFAULT = "default"
"""Name of the template for chats without tools."""


def templates(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the chat templates among a tokenizer's files, by name."""
    extra = f"{tokenizer_files.TEMPLATES}/"
    separate = {DEFAULT: files[_FILE]} if _FILE in files else {}
    separate |= {
        name.removeprefix(extra).removesuffix(".jinja"): content
        for name, content in files.items()
        if name.startswith(extra)
    }
    if separate:
        return {name: content.decode("utf-8") for name, content in separate.items()}
    for name in (tokenizer_files.SETTINGS, "chat_template.json"):
        written = json.loads(files.get(name, b"{}")).get(_KEY)
        if isinstance(written, str):
            return {DEFAULT: written}
        if isinstance(written, list):
            return {template["name"]: template["template"] for template in written}
        if isinstance(written, dict):
            return dict(written)
    return {}


def read(path: str | Path) -> str:
    """Return the content of a chat template's file.

    Raises:
        InputError: it can't be read.
    """
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError:
        raise InputError("G2-301", path, "there is no such file") from None
    except UnicodeDecodeError as error:
        raise InputError("G2-303", path, f"not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise InputError("G2-304", path, f"can't be read: {error.strerror}") from None
