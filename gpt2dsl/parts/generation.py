"""How text is generated."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import flag, integer, number


@part
class Generation(Part):
    """How text is generated; the words mean what they mean in transformers.generate."""

    table: ClassVar[str] = "generation"

    max_new_tokens: int = integer(64, "tokens after the prompt", low=1)
    do_sample: bool = flag(False, "draw from the distribution instead of taking the best")
    temperature: float = number(1.0, "divides the logits; below 1 is sharper", above=True)
    top_k: int = integer(0, "keep the k best; 0 keeps all")
    top_p: float = number(1.0, "keep the smallest set with this probability", high=1.0, above=True)
    repetition_penalty: float = number(1.0, "divides the scores of what was said", above=True)
    beams: int = integer(1, "beam search width", low=1)
    seed: int = integer(0, "of the draws", high=2**32 - 1)
    stream: bool = flag(False, "print tokens as they come")
