"""Columns of a terminal: CJK characters and emoji take two, combining marks none."""

from __future__ import annotations

from rich.cells import cell_len


def width(text: str) -> int:
    """Return how many columns a text takes."""
    return len(text) if text.isascii() else cell_len(text)


def left(text: str, columns: int) -> str:
    """Return a text, filled with spaces after it."""
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    """Return a text, filled with spaces before it."""
    return " " * (columns - width(text)) + text
