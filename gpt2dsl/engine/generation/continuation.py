"""Results of generation."""

from __future__ import annotations

from typing import Any

import attrs

from gpt2dsl.engine.generation.ending import Reason


@attrs.frozen
class TokenScore:
    """The log-probability of a token, before temperature and other processors.

    Attributes:
        token: its text; for part of a character its bytes, as OpenAI's API shows them.
        logprob: its log-probability, in nats.
        best: texts of the most likely tokens at its position, and its own → log-probabilities.
    """

    token: str
    logprob: float
    best: dict[str, float]


@attrs.frozen(kw_only=True)
class Continuation:
    """A prompt and the text generated after it.

    Attributes:
        prompt: the prompt as passed; decoded if it was passed as ids.
        text: the generated text, without an end-of-text token but with a stop string.
        tokens: number of generated tokens, including an end-of-text token.
        prompt_tokens: number of tokens of the prompt.
        ended: eos, stop, length or positions, see :meth:`Ending.reason`.
        ids: generated ids.
        score: for beam search, the sum of log-probabilities over length to the power of
            ``length_penalty``.
        scores: log-probabilities of each token, if requested.
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
        """Return the non-empty fields as a JSON object."""
        fields = attrs.asdict(self)
        return {name: value for name, value in fields.items() if value not in (None, ())}
