"""The texts of an answer as they are told: pieces, and the tokens that each of them completes."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import attrs

from gpt2dsl.data.cleaning import cleaned
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.continuation import TokenScore
from gpt2dsl.engine.generation.row import Row


class Offsets:
    """Says at which character of a text each of its tokens begins.

    Tokens that share a character begin where it does; a broken one is a character, U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text, self._size = "", 0

    def add(self, token: int) -> int:
        """Take the next token of the text, and return the offset at which it begins."""
        held = self._tokenizer.bytes_of([token])
        open_ = self._decoder.getstate()[0]
        # Within an open character: the next byte makes a second one only where it breaks it.
        begun = len((open_ + held[:1]).decode("utf-8", "replace")) - 1 if held and open_ else 0
        offset = self._size + begun
        piece = self._decoder.decode(held)
        self._size += len(piece)
        if not self._tokenizer.cleans:
            return offset
        self._text += piece
        return len(cleaned(self._text[:offset]))


@attrs.frozen
class Span:
    """A piece of a text, and the tokens whose text begins in it.

    Attributes:
        text: the piece.
        ids: of the tokens.
        scores: of them, where they were asked for; the first one of a prompt has none.
        offsets: of them in the whole text.
        finish: why the text is over; None where it is not.
    """

    text: str
    ids: Sequence[int] = ()
    scores: Sequence[TokenScore | None] = ()
    offsets: Sequence[int] = ()
    finish: str | None = None


def echoed(row: Row) -> Span:
    """Return the prompt of a text."""
    placing, ids = Offsets(row.request.tokenizer), row.request.ids
    return Span(row.request.prompt, ids, row.prompt_scores, [placing.add(i) for i in ids])


class Text:
    """A text that is being told.

    Args:
        row: that generates it.
        start: characters before it that are told too.
    """

    def __init__(self, row: Row, start: int = 0) -> None:
        self.row = row
        self._is_scored = row.request.generation.logprobs is not None
        self._start, self._size = start, 0
        self._placing = Offsets(row.request.tokenizer)
        self._offsets: list[int] = []
        self._told = 0

    def tell(self, piece: str, *, is_over: bool) -> Span:
        """Return what is told with a piece.

        Args:
            piece: of the text, after those before.
            is_over: whether it is the last one.
        """
        self._size += len(piece)
        finish = finish_reason(self.row) if is_over else None
        if not self._is_scored:
            return Span(piece, finish=finish)
        ids = self.row.generated[: len(self.row.scores)]
        self._offsets += map(self._placing.add, ids[len(self._offsets) :])
        first = self._told
        # What a stop string cuts off is not told, and neither are its tokens.
        if is_over and self.row.ended != "stop":
            self._told = len(ids)
        else:
            while self._told < len(ids) and self._offsets[self._told] < self._size:
                self._told += 1
        told = slice(first, self._told)
        offsets = [self._start + offset for offset in self._offsets[told]]
        return Span(piece, ids[told], self.row.scores[told], offsets, finish)


def finish_reason(row: Row) -> str:
    """Return why a text is over, in OpenAI's words."""
    return "stop" if row.ended in ("eos", "stop") else "length"


def mean_logprob(row: Row) -> float:
    """Return the mean log-probability of a text's tokens, by which ``best_of`` chooses."""
    return sum(score.logprob for score in row.scores) / max(1, len(row.scores))
