"""Stop criteria of generated texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.stops import Stops
from gpt2dsl.parts import Generation

Reason = Literal["", "eos", "stop", "length", "positions"]


class Ending:
    """The stop criteria of texts that continue one prompt.

    Args:
        generation: generation settings.
        tokenizer: decodes ids to find stop strings.
        prompt: number of tokens of the prompt.
        positions: maximum positions of the model.
        ends: ids that end a text if ``generation`` sets none; None for the tokenizer's
            end-of-text token.
        in_prompt: whether a stop string may begin in the prompt, as in transformers; OpenAI's API
            searches only generated text.
    """

    def __init__(
        self,
        generation: Generation,
        tokenizer: Tokenizer,
        prompt: int,
        positions: int,
        *,
        ends: Sequence[int] | None = None,
        in_prompt: bool = True,
    ) -> None:
        defaults = (tokenizer.eos,) if ends is None else tuple(ends)
        self.ids = tuple(generation.eos) or tuple(i for i in defaults if i is not None)
        self._first = 0 if in_prompt else prompt
        self._tokenizer = tokenizer
        self._limit, self._positions = generation.limit(prompt), positions
        self._stops = Stops([text.encode() for text in generation.stop_strings])

    @property
    def longest(self) -> int:
        """Maximum number of tokens, prompt included."""
        return min(self._limit, self._positions)

    def reason(self, ids: Sequence[int]) -> Reason:
        """Return why the text is over after its last token; "" if it is not.

        eos: an end token; stop: a stop string ends within the last token; length: the requested
        number of tokens is reached; positions: the model's maximum length is reached.
        """
        if ids[-1] in self.ids:
            return "eos"
        if self._stops.longest and self._is_stopped(ids):
            return "stop"
        if len(ids) < self.longest:
            return ""
        return "length" if len(ids) >= self._limit else "positions"

    def _is_stopped(self, ids: Sequence[int]) -> bool:
        """Return whether a stop string ends within the last token."""
        last = len(self._tokenizer.bytes_of(ids[-1:]))
        start, size, pieces = len(ids), 0, []
        # an id unknown to the tokenizer has no bytes
        while start > self._first and size < last + self._stops.longest - 1:
            start -= 1
            pieces.append(self._tokenizer.bytes_of(ids[start : start + 1]))
            size += len(pieces[-1])
        return self._stops.find(b"".join(reversed(pieces)), last) is not None
