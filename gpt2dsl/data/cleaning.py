"""Removes spaces as transformers' ``clean_up_tokenization_spaces`` does, at once or in pieces."""

from __future__ import annotations

import re

_SHORTENED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip

# Both sides of such a place are cleaned apart as together: what is shortened begins with a space,
# and after no other character than these can a side's end go on in what the other side becomes.
_BOUNDARY = re.compile(r"[^ 'n](?= )")


def cleaned(text: str) -> str:
    """Return a text without the spaces before its punctuation."""
    for spaced, short in _SHORTENED:
        text = text.replace(spaced, short)
    return text


class CleanedText:
    """Cleans text that comes in pieces; together they are the whole text, cleaned."""

    def __init__(self) -> None:
        self._waiting = ""

    def add(self, text: str) -> str:
        """Return as much of the text as no later piece can change."""
        self._waiting += text
        ends = [match.end() for match in _BOUNDARY.finditer(self._waiting)]
        if not ends:
            return ""
        ready, self._waiting = self._waiting[: ends[-1]], self._waiting[ends[-1] :]
        return cleaned(ready)

    def rest(self) -> str:
        """Return what is left at the end."""
        ready, self._waiting = self._waiting, ""
        return cleaned(ready)
