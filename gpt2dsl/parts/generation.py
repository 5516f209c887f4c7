"""Generation of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from gpt2dsl.parts.base import Part, part
from gpt2dsl.parts.rules import (
    flag,
    flag_or,
    integer,
    number,
    sequences,
    start_and_factor,
    texts,
    weighted_sequences,
    whole_numbers,
)

NEW_TOKENS = 64
"""Default number of new tokens."""

SAMPLING = frozenset(
    {"temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "seed"}
)
"""Keys without effect unless ``do_sample`` is on."""

OF_BEAMS = frozenset({"length_penalty", "early_stopping"})
"""Keys without effect unless ``beams`` are above 1."""

OF_REQUESTS = frozenset({"bad_words", "logprobs", "seed", "stream"})
"""Keys that no file beside weights can set."""

NEW = frozenset(
    {
        "begin_suppress_tokens", "suppress_tokens", "bad_words_ids", "sequence_bias",
        "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty",
        "encoder_repetition_penalty", "encoder_no_repeat_ngram_size", "epsilon_cutoff",
        "eta_cutoff", "remove_invalid_values", "renormalize_logits",
    }
)  # fmt: skip
"""Keys added after the first release, which digests leave out at their default."""


_PARTNERS = {
    "num_return_sequences": ("beams", "do_sample"),
    "stream": ("beams",),
    "logprobs": ("beams",),
    "encoder_repetition_penalty": ("beams",),
    "min_length": ("max_length",),
    "min_new_tokens": ("max_new_tokens",),
}
"""Key → keys that it may contradict."""


@part
class Generation(Part):
    """How text is generated; the words mean what they mean in transformers.generate 4.57.6.

    Differences: each prompt is continued as if it were alone, whatever else is in the batch;
    ``seed`` is of the request and not of the process. What is not said here the weights'
    generation_config.json says, or the keys of generation in their config.json.
    """

    table: ClassVar[str] = "generation"
    exclusive: ClassVar[tuple[tuple[str, str], ...]] = (("max_new_tokens", "max_length"),)
    added: ClassVar[frozenset[str]] = NEW
    deferred: ClassVar[frozenset[str]]

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
    min_length: int = integer(
        "tokens with the prompt before it may end; min_new_tokens goes before", default=0
    )
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
    epsilon_cutoff: float = number(
        "keep what has this probability (Hewitt et al. 2022); 0 keeps all",
        high=1.0,
        below=True,
        default=0.0,
    )
    eta_cutoff: float = number(
        "keep what has a probability that follows from this and the entropy (Hewitt et al. 2022); "
        "0 keeps all",
        high=1.0,
        below=True,
        default=0.0,
    )
    repetition_penalty: float = number(
        "divides the scores of what was said", above=True, default=1.0
    )
    encoder_repetition_penalty: float = number(
        "multiplies the scores of the prompt's tokens", above=True, default=1.0
    )
    no_repeat_ngram_size: int = integer(
        "no sequence of so many tokens comes twice; 0 allows it", default=0
    )
    encoder_no_repeat_ngram_size: int = integer(
        "no sequence of so many tokens comes that the prompt has; 0 allows it", default=0
    )
    bad_words: Sequence[str] = texts("texts that are never generated", default=())
    bad_words_ids: Sequence[Sequence[int]] = sequences(
        "sequences of ids that are never generated; an end of the text may be", default=()
    )
    suppress_tokens: Sequence[int] = whole_numbers(
        "ids that are never generated", default=(), empty=True
    )
    begin_suppress_tokens: Sequence[int] = whole_numbers(
        "ids that are not generated first", default=(), empty=True
    )
    sequence_bias: Sequence[tuple[Sequence[int], float]] = weighted_sequences(
        "sequences of ids, and what is added to the score of the last one of each", default=()
    )
    forced_bos_token_id: int | None = integer(
        "the id after a prompt of one token", optional=True, default=None
    )
    forced_eos_token_id: Sequence[int] = whole_numbers(
        "the id that comes last where the length ends it, or several of them",
        default=(),
        empty=True,
        single=True,
    )
    exponential_decay_length_penalty: Sequence[float] = start_and_factor(
        "after so many tokens, the factor by which the scores of ends grow with each", default=()
    )
    remove_invalid_values: bool = flag(
        "scores of minus infinity become the lowest number, so that a token can always be chosen",
        default=False,
    )
    renormalize_logits: bool = flag(
        "scores are log-probabilities again after all that changed them", default=False
    )
    stop_strings: Sequence[str] = texts("texts after which it ends", default=())
    eos: Sequence[int] = whole_numbers(
        "ids after which it ends; those of the weights' files, or the tokenizer's end-of-text, "
        "where none is said",
        default=(),
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
        """Return keys whose values contradict others, with the reason."""
        copies, searches = self.num_return_sequences, self.beams > 1
        shortest = {"min_length": self.max_length, "min_new_tokens": self.max_new_tokens}
        of_prompts = "transformers applies it to the first beam alone; say beams = 1"
        conflicts = {
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
            "encoder_repetition_penalty": {
                of_prompts: searches and self.encoder_repetition_penalty != 1
            },
            "bad_words": {"a text is empty": "" in self.bad_words},
            "stop_strings": {"a text is empty": "" in self.stop_strings},
            **{
                key: {f"the text ends before, after {longest}": getattr(self, key) > longest}
                for key, longest in shortest.items()
                if longest is not None
            },
        }
        return [
            (key, why + self._elsewhere(key))
            for key, reasons in conflicts.items()
            for why, applies in reasons.items()
            if applies
        ]

    def _elsewhere(self, key: str) -> str:
        """Return a suffix with the keys that contradict ``key`` and are set in weights' files."""
        origins = {name: self.why(name) for name in _PARTNERS.get(key, ())}
        partners = [
            f"{name} = {getattr(self, name)} is said at {origin}"
            for name, origin in origins.items()
            if ".json" in origin and origin != self.why(key)
        ]
        return "".join(f"; {words}" for words in partners)

    def limit(self, prompt: int) -> int:
        """Return the maximum length, including a prompt of ``prompt`` tokens."""
        if self.max_length is not None:
            return self.max_length
        return prompt + (NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens)

    def least(self, prompt: int) -> int:
        """Return the minimum length, including a prompt of ``prompt`` tokens."""
        return prompt + self.min_new_tokens if self.min_new_tokens else self.min_length

    @property
    def ids(self) -> dict[str, list[int]]:
        """Token ids in the settings, by key."""
        return {
            "eos": list(self.eos),
            "suppress_tokens": list(self.suppress_tokens),
            "begin_suppress_tokens": list(self.begin_suppress_tokens),
            "bad_words_ids": [i for ids in self.bad_words_ids for i in ids],
            "sequence_bias": [i for ids, _ in self.sequence_bias for i in ids],
            "forced_eos_token_id": list(self.forced_eos_token_id),
            "forced_bos_token_id": (
                [] if self.forced_bos_token_id is None else [self.forced_bos_token_id]
            ),
        }


Generation.deferred = frozenset(Generation.rules()) - OF_REQUESTS
