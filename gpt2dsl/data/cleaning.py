"""Removal of spaces as by ``clean_up_tokenization_spaces`` of transformers, also streaming."""

from __future__ import annotations

import re

_SHORTENED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip

# Both sides of such a place can be cleaned separately: each replaced string begins with a space,
# and after other characters than these no replaced string can cross the place.
_BOUNDARY = re.compile(r"[^ 'n](?= )")


def cleaned(text: str) -> str:
    """Return a text without spaces before punctuation."""
    for spaced, short in _SHORTENED:
        text = text.replace(spaced, short)
    return text


class CleanedText:
    """Streaming form of ``cleaned``: the pieces that it returns add up to the cleaned text."""

    def __init__(self) -> None:
        self._waiting = ""

    def add(self, text: str) -> str:
        """Add a piece and return the text that no later piece can change."""
        self._waiting += text
        ends = [match.end() for match in _BOUNDARY.finditer(self._waiting)]
        if not ends:
            return ""
        ready, self._waiting = self._waiting[: ends[-1]], self._waiting[ends[-1] :]
        return cleaned(ready)

    def rest(self) -> str:
        """Return the remaining text at the end."""
        ready, self._waiting = self._waiting, ""
        return cleaned(ready)
