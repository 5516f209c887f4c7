"""How text is generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import flag, flag_or, integer, number, texts, whole_numbers

NEW_TOKENS = 64
"""Tokens after the prompt where no length is said."""


@part
class Generation(Part):
    """How text is generated; the words mean what they mean in transformers.generate 4.57.6.

    Differences: each prompt is continued as if it were alone, whatever else is in the batch;
    ``seed`` is of the request and not of the process; without ``eos`` a text ends at the
    tokenizer's end-of-text token.
    """

    table: ClassVar[str] = "generation"
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = (("max_new_tokens", "max_length"),)

    max_new_tokens: int | None = integer(
        f"tokens after the prompt, at most; {NEW_TOKENS} where no length is said",
        low=1,
        optional=True,
        default=None,
    )
    max_length: int | None = integer(
        "tokens with the prompt, at most; instead of max_new_tokens",
        low=1,
        optional=True,
        default=None,
    )
    min_new_tokens: int = integer("tokens after the prompt before it may end", default=0)
    min_length: int = integer("tokens with the prompt before it may end", default=0)
    do_sample: bool = flag("draw from the distribution instead of taking the best", default=False)
    temperature: float = number("divides the logits; below 1 is sharper", above=True, default=1.0)
    top_k: int = integer("keep the k best; 0 keeps all", default=0)
    top_p: float = number(
        "keep the smallest set with this probability", high=1.0, above=True, default=1.0
    )
    min_p: float = number(
        "keep what has this share of the best one's probability", high=1.0, default=0.0
    )
    typical_p: float = number(
        "keep the most typical set with this probability (Meister et al. 2022)",
        high=1.0,
        above=True,
        default=1.0,
    )
    repetition_penalty: float = number(
        "divides the scores of what was said", above=True, default=1.0
    )
    no_repeat_ngram_size: int = integer(
        "no sequence of so many tokens comes twice; 0 allows it", default=0
    )
    bad_words: Sequence[str] = texts("texts that are never generated", default=())
    stop_strings: Sequence[str] = texts("texts after which it ends", default=())
    eos: Sequence[int] = whole_numbers(
        "ids after which it ends; the tokenizer's end-of-text where none is said", default=()
    )
    beams: int = integer("beam search width", low=1, default=1)
    length_penalty: float = number(
        "of beams: their score is divided by length to this power", low=-100, high=100, default=1.0
    )
    early_stopping: bool | str = flag_or(
        "never",
        "of beams, once enough have ended: stop (true), go on while better ones are likely (false) "
        "or possible (never)",
        default=False,
    )
    num_return_sequences: int = integer("texts for each prompt", low=1, default=1)
    logprobs: int | None = integer(
        "log-probabilities of each token, and of so many best ones in its place",
        high=20,
        optional=True,
        default=None,
    )
    seed: int = integer("of the draws", high=2**32 - 1, default=0)
    stream: bool = flag("print tokens as they come", default=False)

    def contradictions(self) -> list[tuple[str, str]]:
        """Keys whose values do not go with others, and why."""
        copies, searches = self.num_return_sequences, self.beams > 1
        shortest = {"min_length": self.max_length, "min_new_tokens": self.max_new_tokens}
        wrong = {
            "num_return_sequences": {
                "one search gives one text; say do_sample, or beams": (
                    copies > 1 and not searches and not self.do_sample
                ),
                f"there are only {self.beams} beams": searches and copies > self.beams,
            },
            "stream": {"a search with beams knows its text at the end": self.stream and searches},
            "logprobs": {
                "beams have a score, no log-probabilities of tokens": (
                    searches and self.logprobs is not None
                )
            },
            "bad_words": {"a text is empty": "" in self.bad_words},
            "stop_strings": {"a text is empty": "" in self.stop_strings},
            **{
                key: {f"the text ends before, after {longest}": getattr(self, key) > longest}
                for key, longest in shortest.items()
                if longest is not None
            },
        }
        return [(key, why) for key, found in wrong.items() for why, is_so in found.items() if is_so]

    def limit(self, prompt: int) -> int:
        """Tokens with the prompt at most, for a prompt of so many."""
        if self.max_length is not None:
            return self.max_length
        return prompt + (NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens)
