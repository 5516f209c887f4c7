"""How text is generated."""

from __future__ import annotations

from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import flag, integer, number


@part
class Generation(Part):
    """How text is generated; the words mean what they mean in transformers.generate."""

    table: ClassVar[str] = "generation"

    max_new_tokens: int = integer("tokens after the prompt", low=1, default=64)
    do_sample: bool = flag("draw from the distribution instead of taking the best", default=False)
    temperature: float = number("divides the logits; below 1 is sharper", above=True, default=1.0)
    top_k: int = integer("keep the k best; 0 keeps all", default=0)
    top_p: float = number(
        "keep the smallest set with this probability", high=1.0, above=True, default=1.0
    )
    repetition_penalty: float = number(
        "divides the scores of what was said", above=True, default=1.0
    )
    beams: int = integer("beam search width", low=1, default=1)
    seed: int = integer("of the draws", high=2**32 - 1, default=0)
    stream: bool = flag("print tokens as they come", default=False)
