"""Incremental search for stop strings."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Generic, TypeVar

Text = TypeVar("Text", str, bytes)


class Stops(Generic[Text]):
    """A set of stop strings; searching stays fast for any number and length of them.

    Args:
        texts: strings or bytes; empty ones are ignored.

    Attributes:
        longest: length of the longest one; 0 without any.
    """

    def __init__(self, texts: Sequence[Text]) -> None:
        self._sorted: list[Text] = sorted({text for text in texts if text})
        self._by_length: dict[int, set[Text]] = {}
        for text in self._sorted:
            self._by_length.setdefault(len(text), set()).add(text)
        self.longest = max(self._by_length, default=0)

    def find(self, text: Text, new: int) -> int | None:
        """Return the start of the first match that ends within the last ``new`` items of a text."""
        starts = (
            end - length
            for end in range(max(1, len(text) - new + 1), len(text) + 1)
            for length, texts in self._by_length.items()
            if length <= end and text[end - length : end] in texts
        )
        return min(starts, default=None)

    def begin_with(self, text: Text) -> bool:
        """Return whether any of them starts with this text."""
        place = bisect_left(self._sorted, text)
        return place < len(self._sorted) and self._sorted[place].startswith(text)
