"""A prompt that is to be continued, and how."""

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
"""Tokens for which caches have room from the start, where so many are allowed."""


@attrs.frozen(kw_only=True, slots=False)
class Request:
    """One prompt.

    Attributes:
        prompt: as it was given; the text of one that was given as ids.
        ids: of it, at least one.
        generation: how to go on.
        tokenizer: of the ids.
        positions: tokens that the model takes.
        number: among the texts that are asked for at once, so that equal prompts draw differently.
        ends: ids after which its texts end, where the generation says none; the tokenizer's
            end-of-text where they are None.
        stops_in_prompt: whether a stop string may begin in the prompt.
        presence_penalty: is taken off the scores of tokens that were generated.
        frequency_penalty: likewise, for each time that they were.
        scores_prompt: whether the prompt's tokens get log-probabilities too.
        generates: whether there is a text; else the prompt alone is taken in, and scored.
        adapter: the name of the adapter that continues it, where several share a server's batch; ""
            for the base.
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
        """When its texts are over."""
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
        """What is done to scores."""
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
        """What its texts are drawn with."""
        return np.random.default_rng([self.generation.seed, self.number])

    @property
    def room(self) -> int:
        """Tokens for which there must be room at the start."""
        return max(len(self.ids), min(self.ending.longest, RESERVED))
