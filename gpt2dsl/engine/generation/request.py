"""A prompt with its generation settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import attrs
import numpy as np

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.ending import Ending
from gpt2dsl.engine.generation.processors import discouraged, processors
from gpt2dsl.engine.generation.scores import Processor, Scores
from gpt2dsl.parts import Generation

RESERVED = 256
"""Initial capacity of KV caches in tokens, if the text may become that long."""


@attrs.frozen(kw_only=True, slots=False)
class Request:
    """A generation request for one prompt.

    Attributes:
        prompt: the prompt as passed; decoded if it was passed as ids.
        ids: ids of the prompt, at least one.
        generation: generation settings.
        tokenizer: tokenizer of the ids.
        positions: maximum positions of the model.
        number: index among texts requested together, so that equal prompts are sampled differently.
        ends: ids that end its texts if ``generation`` sets none; None for the tokenizer's
            end-of-text token.
        stops_in_prompt: whether a stop string may begin in the prompt.
        presence_penalty: subtracted from the scores of tokens that were generated.
        frequency_penalty: subtracted once for each time that a token was generated.
        scores_prompt: whether to compute log-probabilities of the prompt's tokens too.
        generates: whether to generate a text; else the prompt is only prefilled and scored.
        adapter: name of the adapter to use, where several share a server's batch; "" for the base.
    """

    prompt: str
    ids: tuple[int, ...]
    generation: Generation
    tokenizer: Tokenizer
    positions: int
    number: int = 0
    ends: tuple[int, ...] | None = None
    stops_in_prompt: bool = True
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    scores_prompt: bool = False
    generates: bool = True
    adapter: str = ""

    @cached_property
    def ending(self) -> Ending:
        """Stop criteria of its texts."""
        return Ending(
            self.generation,
            self.tokenizer,
            len(self.ids),
            self.positions,
            ends=self.ends,
            in_prompt=self.stops_in_prompt,
        )

    @cached_property
    def processors(self) -> list[Processor]:
        """Logits processors, applied in order."""
        ending, prompt = self.ending, len(self.ids)
        active = processors(self.generation, self.tokenizer, prompt, ending.ids, ending.longest)
        return [self._discouraged, *active] if self._discourages else active

    @property
    def _discourages(self) -> bool:
        return bool(self.presence_penalty or self.frequency_penalty)

    def _discouraged(self, scores: Scores, tokens: Sequence[int]) -> Scores:
        generated = tokens[len(self.ids) :]
        return discouraged(scores, generated, self.presence_penalty, self.frequency_penalty)

    @cached_property
    def random(self) -> np.random.Generator:
        """Random generator that samples its texts."""
        return np.random.default_rng([self.generation.seed, self.number])

    @property
    def room(self) -> int:
        """Number of tokens to reserve in the KV cache at the start."""
        return max(len(self.ids), min(self.ending.longest, RESERVED))
