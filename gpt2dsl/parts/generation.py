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
        f"maximum tokens after the prompt; {NEW_TOKENS} if no length is set",
        low=1,
        optional=True,
        default=None,
    )
    max_length: int | None = integer(
        "maximum tokens, prompt included; in place of max_new_tokens",
        low=1,
        optional=True,
        default=None,
    )
    min_new_tokens: int = integer("minimum tokens after the prompt", default=0)
    min_length: int = integer(
        "minimum tokens, prompt included; min_new_tokens takes precedence", default=0
    )
    do_sample: bool = flag("sample, instead of taking the most likely token", default=False)
    temperature: float = number(
        "divides the logits; below 1, the distribution is sharper", above=True, default=1.0
    )
    top_k: int = integer("keep the k most likely tokens; 0 keeps all", default=0)
    top_p: float = number(
        "keep the smallest set of tokens with this probability", high=1.0, above=True, default=1.0
    )
    min_p: float = number(
        "keep tokens with at least this fraction of the best one's probability",
        high=1.0,
        default=0.0,
    )
    typical_p: float = number(
        "keep the most typical set with this probability (Meister et al. 2022)",
        high=1.0,
        above=True,
        default=1.0,
    )
    epsilon_cutoff: float = number(
        "keep tokens with at least this probability (Hewitt et al. 2022); 0 keeps all",
        high=1.0,
        below=True,
        default=0.0,
    )
    eta_cutoff: float = number(
        "keep tokens above a probability that depends on this and on the entropy (Hewitt et al. "
        "2022); 0 keeps all",
        high=1.0,
        below=True,
        default=0.0,
    )
    repetition_penalty: float = number(
        "divides the scores of tokens that occurred before", above=True, default=1.0
    )
    encoder_repetition_penalty: float = number(
        "multiplies the scores of the prompt's tokens", above=True, default=1.0
    )
    no_repeat_ngram_size: int = integer(
        "no sequence of this many tokens occurs twice; 0 disables it", default=0
    )
    encoder_no_repeat_ngram_size: int = integer(
        "no sequence of this many tokens of the prompt occurs; 0 disables it", default=0
    )
    bad_words: Sequence[str] = texts("texts that are never generated", default=())
    bad_words_ids: Sequence[Sequence[int]] = sequences(
        "sequences of ids that are never generated; the end of the text may be", default=()
    )
    suppress_tokens: Sequence[int] = whole_numbers(
        "ids that are never generated", default=(), empty=True
    )
    begin_suppress_tokens: Sequence[int] = whole_numbers(
        "ids that are never generated first", default=(), empty=True
    )
    sequence_bias: Sequence[tuple[Sequence[int], float]] = weighted_sequences(
        "sequences of ids, each with a bias on the score of its last id", default=()
    )
    forced_bos_token_id: int | None = integer(
        "id that follows a prompt of one token", optional=True, default=None
    )
    forced_eos_token_id: Sequence[int] = whole_numbers(
        "id, or ids, generated last when the maximum length is reached",
        default=(),
        empty=True,
        single=True,
    )
    exponential_decay_length_penalty: Sequence[float] = start_and_factor(
        "number of tokens after which the scores of ends grow by a factor with each token",
        default=(),
    )
    remove_invalid_values: bool = flag(
        "replace invalid scores by finite ones, so that a token can always be chosen",
        default=False,
    )
    renormalize_logits: bool = flag(
        "normalise scores to log-probabilities after all changes", default=False
    )
    stop_strings: Sequence[str] = texts("texts that end the generation", default=())
    eos: Sequence[int] = whole_numbers(
        "ids that end the generation; by default those of the weights' files, or the tokenizer's "
        "end-of-text token",
        default=(),
    )
    beams: int = integer("beam search width", low=1, default=1)
    length_penalty: float = number(
        "power of the length by which scores of beams are divided", low=-100, high=100, default=1.0
    )
    early_stopping: bool | str = flag_or(
        "never",
        "once enough beams have ended: stop (true), or continue while better ones are likely "
        "(false) or possible (never)",
        default=False,
    )
    num_return_sequences: int = integer("number of texts per prompt", low=1, default=1)
    logprobs: int | None = integer(
        "log-probabilities of each token and of this many most likely alternatives",
        high=20,
        optional=True,
        default=None,
    )
    seed: int = integer("seed of the samples", high=2**32 - 1, default=0)
    stream: bool = flag("print tokens as they are generated", default=False)

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
