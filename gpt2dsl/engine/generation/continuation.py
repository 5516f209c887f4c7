"""What generation gives."""

from __future__ import annotations

from typing import Any

import attrs

from gpt2dsl.engine.generation.ending import Reason


@attrs.frozen
class TokenScore:
    """How likely a token was, before temperature and the like.

    Attributes:
        token: its text; of a part of a character its bytes, as OpenAI's API shows them.
        logprob: of it, nats.
        best: texts of the most likely tokens in its place, and its own → their log-probabilities.
    """

    token: str
    logprob: float
    best: dict[str, float]


@attrs.frozen(kw_only=True)
class Continuation:
    """A prompt and what was generated after it.

    Attributes:
        prompt: as it was given; the text of one that was given as ids.
        text: that follows it; an end-of-text token is left out, a stop string is not.
        tokens: how many were generated, an end-of-text token counted.
        prompt_tokens: of the prompt.
        ended: eos, stop, length or positions, as :meth:`Ending.reason` has them.
        ids: what was generated.
        score: of beam search: the sum of log-probabilities over length to the power of
            ``length_penalty``.
        scores: of each token, where they were asked for.
    """

    prompt: str
    text: str
    tokens: int
    prompt_tokens: int
    ended: Reason
    ids: tuple[int, ...] = attrs.field(repr=False)
    score: float | None = None
    scores: tuple[TokenScore, ...] = attrs.field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the fields that say something, as JSON has them."""
        found = attrs.asdict(self)
        return {name: value for name, value in found.items() if value not in (None, ())}
