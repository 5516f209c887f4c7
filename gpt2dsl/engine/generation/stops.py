"""Texts that end another one, found as it grows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Generic, TypeVar

Text = TypeVar("Text", str, bytes)


class Stops(Generic[Text]):
    """Any number of texts to look for; neither their number nor their length makes it slow.

    Args:
        texts: characters or bytes; empty ones are left out.

    Attributes:
        longest: the length of the longest; 0 where there is none.
    """

    def __init__(self, texts: Sequence[Text]) -> None:
        self._sorted: list[Text] = sorted({text for text in texts if text})
        self._by_length: dict[int, set[Text]] = {}
        for text in self._sorted:
            self._by_length.setdefault(len(text), set()).add(text)
        self.longest = max(self._by_length, default=0)

    def find(self, text: Text, new: int) -> int | None:
        """Return where the first one begins that ends within the last ``new`` places of a text."""
        starts = (
            end - length
            for end in range(max(1, len(text) - new + 1), len(text) + 1)
            for length, texts in self._by_length.items()
            if length <= end and text[end - length : end] in texts
        )
        return min(starts, default=None)

    def begin_with(self, text: Text) -> bool:
        """Return whether one of them begins with a text."""
        place = bisect_left(self._sorted, text)
        return place < len(self._sorted) and self._sorted[place].startswith(text)
