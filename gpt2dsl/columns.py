"""Text width in terminal columns: two for CJK characters and emoji, none for combining marks."""

from __future__ import annotations

from rich.cells import cell_len


def width(text: str) -> int:
    """Return the width of a text in columns."""
    return len(text) if text.isascii() else cell_len(text)


def left(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    return " " * (columns - width(text)) + text
