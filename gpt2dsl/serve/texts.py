"""Texts of an answer as pieces, with the tokens that begin in each."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import attrs

from gpt2dsl.data.cleaning import cleaned
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.continuation import TokenScore
from gpt2dsl.engine.generation.row import Row


class Offsets:
    """Incremental character offsets of the tokens of a text.

    Tokens that share a character have its offset; an invalid one counts as a character, U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text, self._size = "", 0

    def add(self, token: int) -> int:
        """Return the character offset of the next token of the text."""
        encoded = self._tokenizer.bytes_of([token])
        pending = self._decoder.getstate()[0]
        # Within an incomplete character, the next byte starts another only if it breaks this one.
        broken = (
            len((pending + encoded[:1]).decode("utf-8", "replace")) - 1
            if encoded and pending
            else 0
        )
        offset = self._size + broken
        piece = self._decoder.decode(encoded)
        self._size += len(piece)
        if not self._tokenizer.cleans:
            return offset
        self._text += piece
        return len(cleaned(self._text[:offset]))


@attrs.frozen
class Span:
    """A piece of a text, and the tokens whose text begins in it.

    Attributes:
        scores: their scores, if requested; the first token of a prompt has none.
        offsets: their character offsets in the whole text.
        finish: the finish reason of the text; None before its end.
    """

    text: str
    ids: Sequence[int] = ()
    scores: Sequence[TokenScore | None] = ()
    offsets: Sequence[int] = ()
    finish: str | None = None


def echoed(row: Row) -> Span:
    """Return the prompt of a row as a span."""
    placing, ids = Offsets(row.request.tokenizer), row.request.ids
    return Span(row.request.prompt, ids, row.prompt_scores, [placing.add(i) for i in ids])


class Text:
    """A text in the course of its answer, in which ``start`` characters precede it."""

    def __init__(self, row: Row, start: int = 0) -> None:
        self.row = row
        self._is_scored = row.request.generation.logprobs is not None
        self._start, self._size = start, 0
        self._placing = Offsets(row.request.tokenizer)
        self._offsets: list[int] = []
        self._told = 0

    def tell(self, piece: str, *, is_over: bool) -> Span:
        """Return the next span, for the next piece of the text."""
        self._size += len(piece)
        finish = finish_reason(self.row) if is_over else None
        if not self._is_scored:
            return Span(piece, finish=finish)
        ids = self.row.generated[: len(self.row.scores)]
        self._offsets += map(self._placing.add, ids[len(self._offsets) :])
        first = self._told
        # Text that a stop string cuts off is omitted, and so are its tokens.
        if is_over and self.row.ended != "stop":
            self._told = len(ids)
        else:
            while self._told < len(ids) and self._offsets[self._told] < self._size:
                self._told += 1
        new = slice(first, self._told)
        offsets = [self._start + offset for offset in self._offsets[new]]
        return Span(piece, ids[new], self.row.scores[new], offsets, finish)


def finish_reason(row: Row) -> str:
    """Return OpenAI's finish reason of a complete text."""
    return "stop" if row.ended in ("eos", "stop") else "length"


def mean_logprob(row: Row) -> float:
    """Return the mean log-probability of a text's tokens, which ranks ``best_of`` candidates."""
    return sum(score.logprob for score in row.scores) / max(1, len(row.scores))
