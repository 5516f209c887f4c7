"""The text of tokens as they come: whole characters only."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from gpt2dsl.data.cleaning import CleanedText
from gpt2dsl.data.tokenizer import Tokenizer


class Pieces:
    """Turns tokens into pieces of text. Joined they are what ``tokenizer.decode`` gives.

    Args:
        tokenizer: of the tokens.
        held: texts before which the text is cut; what may be the beginning of one is held back.
    """

    def __init__(self, tokenizer: Tokenizer, held: Sequence[str] = ()) -> None:
        self._tokenizer, self._held = tokenizer, [text for text in held if text]
        self._cleaning = CleanedText() if tokenizer.cleans else None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""
        self._cut = False

    def add(self, ids: Sequence[int]) -> str:
        """The text that these tokens complete."""
        text = self._decoder.decode(self._tokenizer.bytes_of(ids))
        return self._out(self._cleaning.add(text) if self._cleaning else text, last=False)

    def rest(self) -> str:
        """What is left at the end: a broken character becomes U+FFFD."""
        text = self._decoder.decode(b"", final=True)
        if self._cleaning:
            text = self._cleaning.add(text) + self._cleaning.rest()
        return self._out(text, last=True)

    def _out(self, text: str, *, last: bool) -> str:
        if self._cut:
            return ""
        text = self._waiting + text
        places = [place for stop in self._held if (place := text.find(stop)) >= 0]
        if places:
            self._cut = True
            return text[: min(places)]
        keep = 0 if last else self._beginning(text)
        self._waiting = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _beginning(self, text: str) -> int:
        """Characters at the end that may begin a held text."""
        return max(
            (
                size
                for stop in self._held
                for size in range(1, len(stop))
                if text.endswith(stop[:size])
            ),
            default=0,
        )
