"""Streaming detokenization: whole characters only."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from gpt2dsl.data.cleaning import CleanedText
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.stops import Stops


class Pieces:
    """An incremental detokenizer. Its joined pieces equal ``tokenizer.decode`` of all tokens.

    Args:
        tokenizer: tokenizer of the ids.
        held: strings that cut the text off; possible beginnings of one are held back.
    """

    def __init__(self, tokenizer: Tokenizer, held: Sequence[str] | Stops[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._held = held if isinstance(held, Stops) else Stops(held)
        self._cleaning = CleanedText() if tokenizer.cleans else None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""
        self._cut = False

    def add(self, ids: Sequence[int]) -> str:
        """Return the text that these tokens complete."""
        text = self._decoder.decode(self._tokenizer.bytes_of(ids))
        return self._out(self._cleaning.add(text) if self._cleaning else text, last=False)

    def rest(self) -> str:
        """Return the remaining text at the end; an incomplete character becomes U+FFFD."""
        text = self._decoder.decode(b"", final=True)
        if self._cleaning:
            text = self._cleaning.add(text) + self._cleaning.rest()
        return self._out(text, last=True)

    def _out(self, text: str, *, last: bool) -> str:
        if self._cut:
            return ""
        added, text = len(text), self._waiting + text
        if (place := self._held.find(text, added)) is not None:
            self._cut = True
            return text[:place]
        # Text that starts no held string now never will once it is longer.
        start = len(text) if last else 0
        while start < len(text) and not self._held.begin_with(text[start:]):
            start += 1
        self._waiting = text[start:]
        return text[:start]
