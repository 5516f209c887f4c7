"""Prompts and texts of a task: those of the recipe, a file, or stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt2dsl.data.form import other_format
from gpt2dsl.data.table import not_json
from gpt2dsl.errors import InputError

STDIN = "-"


def read(texts: Sequence[str] | str, key: str) -> Sequence[str]:
    """Return the texts.

    Args:
        texts: the texts, or a file with one text per line, in .jsonl (.ndjson) a string or an
            object; ``-`` for stdin. Lines end with a line feed; empty ones are left out.
        key: key of the text in objects.

    Raises:
        InputError: the file is absent (G2-301), empty (G2-302), not UTF-8 (G2-303), damaged
            (G2-304), or by its name of another format (G2-310).
    """
    if not isinstance(texts, str):
        return texts
    named = _format(texts, key)
    lines = [line.removesuffix("\r") for line in _text(texts).split("\n")]
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line]
    if not numbered:
        raise InputError("G2-302", texts, f"there is no {key} in it")
    if named:
        return tuple(_of_json(f"{texts}:{i}", line, key) for i, line in numbered)
    return tuple(line for _, line in numbered)


def _format(name: str, key: str) -> str:
    """Return jsonl, or "" for a text; refuse what is a table by its name."""
    path = Path(name)
    named = other_format(path)
    if named in ("", "jsonl"):
        return named
    message = (
        f"{path.name} is no plain text by its name: expected one {key} a line, or a .jsonl of "
        f"strings or of tables with {key}; named .txt, its lines are taken as they are"
    )
    raise InputError("G2-310", name, message)


def _text(name: str) -> str:
    try:
        content = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError("G2-301", name, "there is no such file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        words = f"not UTF-8 at byte {error.start}, line {line}: {error.object[error.start]:#04x}"
        raise InputError("G2-303", name, words) from None
    except OSError as error:
        raise InputError("G2-304", name, f"can't be read: {error.strerror}") from None


def _of_json(place: str, line: str, key: str) -> str:
    try:
        content: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError("G2-304", place, f"not JSON: {not_json(error)[0]}") from None
    text = content.get(key) if isinstance(content, dict) else content
    if not isinstance(text, str):
        raise InputError("G2-304", place, f"expected a string, or a table with {key}")
    return text
