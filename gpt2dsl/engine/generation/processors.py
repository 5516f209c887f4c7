"""Logits processors: modify next-token scores, in the order of transformers 4.57.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.scores import (
    Processor,
    Scores,
    blocked,
    finite,
    forced,
    log_softmax,
)
from gpt2dsl.engine.generation.warpers import warpers
from gpt2dsl.parts import Generation

_RANGE = np.finfo(np.float32)
"""The range of float32, the type of scores in transformers."""


def processors(
    generation: Generation,
    tokenizer: Tokenizer,
    prompt: int,
    ends: Sequence[int],
    longest: int | None = None,
) -> list[Processor]:
    """Return the active processors; each takes scores and the ids so far.

    Args:
        generation: generation settings.
        tokenizer: encodes the bad words.
        prompt: number of tokens of the prompt.
        ends: ids that end the text.
        longest: maximum number of tokens, prompt included; None for the limit of ``generation``.
    """
    g = generation
    active = [
        *_of_sequences(g, tokenizer, prompt, ends),
        *_of_ends(g, prompt, ends, g.limit(prompt) if longest is None else longest),
    ]
    if g.suppress_tokens:
        active.append(lambda scores, _: blocked(scores, g.suppress_tokens))
    if g.begin_suppress_tokens:
        first = prompt + (prompt == 1 and g.forced_bos_token_id is not None)
        active.append(
            lambda scores, tokens: (
                blocked(scores, g.begin_suppress_tokens) if len(tokens) == first else scores
            )
        )
    if g.do_sample:
        active += warpers(g, len(ends))
    if g.renormalize_logits:
        active.append(lambda scores, _: log_softmax(scores))
    return active


def _of_sequences(
    g: Generation, tokenizer: Tokenizer, prompt: int, ends: Sequence[int]
) -> list[Processor]:
    """Return the processors that depend on the tokens so far."""
    active: list[Processor] = []
    if g.sequence_bias:
        biases = {tuple(ids): float(bias) for ids, bias in g.sequence_bias}
        active.append(lambda scores, tokens: biased(scores, tokens, biases))
    if g.encoder_repetition_penalty != 1:
        inverse = 1 / g.encoder_repetition_penalty
        key = "encoder_repetition_penalty"
        active.append(lambda scores, tokens: penalised(scores, tokens[:prompt], inverse, key))
    if g.repetition_penalty != 1:
        active.append(lambda scores, tokens: penalised(scores, tokens, g.repetition_penalty))
    if size := g.no_repeat_ngram_size:
        active.append(lambda scores, tokens: without_repeats(scores, tokens, size, tokens))
    if prompt_size := g.encoder_no_repeat_ngram_size:
        active.append(
            lambda scores, tokens: without_repeats(scores, tokens, prompt_size, tokens[:prompt])
        )
    if g.bad_words or g.bad_words_ids:
        bad = [*map(list, g.bad_words_ids), *bad_sequences(g.bad_words, tokenizer)]
        bad = [ids for ids in bad if ids not in [[end] for end in ends]]
        active.append(lambda scores, tokens: without(scores, tokens, bad))
    return active


def _of_ends(g: Generation, prompt: int, ends: Sequence[int], longest: int) -> list[Processor]:
    """Return the processors that depend on the number of tokens so far."""
    active: list[Processor] = []
    if shortest := g.least(prompt):
        active.append(
            lambda scores, tokens: blocked(scores, ends) if len(tokens) < shortest else scores
        )
    if (first := g.forced_bos_token_id) is not None:
        active.append(
            lambda scores, tokens: forced(scores, [first]) if len(tokens) == 1 else scores
        )
    if last := g.forced_eos_token_id:
        active.append(
            lambda scores, tokens: forced(scores, last) if len(tokens) == longest - 1 else scores
        )
    if g.remove_invalid_values:
        active.append(lambda scores, _: np.clip(scores, _RANGE.min, _RANGE.max))
    if g.exponential_decay_length_penalty and ends:
        start, factor = g.exponential_decay_length_penalty
        active.append(partial(hastened, ends=ends, start=prompt + int(start), factor=factor))
    return active


def biased(
    scores: Scores, tokens: Sequence[int], biases: Mapping[tuple[int, ...], float]
) -> Scores:
    """Add a sequence's bias to the score of the token that would complete it."""
    scores = scores.copy()
    for ids, bias in biases.items():
        if _would_end(ids, tokens):
            scores[ids[-1]] += bias
    return finite(scores, "sequence_bias", "too large")


def penalised(
    scores: Scores, tokens: Sequence[int], penalty: float, key: str = "repetition_penalty"
) -> Scores:
    """Divide positive scores of tokens so far and multiply negative ones (Keskar et al. 2019)."""
    scores = scores.copy()
    seen = np.unique(np.asarray(tokens, dtype=np.int64))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scores[seen] = np.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
    return finite(scores, key, penalty)


def discouraged(
    scores: Scores, generated: Sequence[int], presence: float, frequency: float
) -> Scores:
    """Apply OpenAI's presence and frequency penalties to the scores of generated tokens."""
    scores = scores.copy()
    ids, counts = np.unique(np.asarray(generated, dtype=np.int64), return_counts=True)
    scores[ids] -= presence + frequency * counts
    return scores


def hastened(
    scores: Scores, tokens: Sequence[int], *, ends: Sequence[int], start: int, factor: float
) -> Scores:
    """Raise the scores of end tokens exponentially with each token after ``start``."""
    if len(tokens) <= start:
        return scores
    scores, places = scores.copy(), np.unique(np.asarray(ends, dtype=np.int64))
    with np.errstate(over="ignore", invalid="ignore"):
        growth = np.power(np.float64(factor), len(tokens) - start) - 1
        scores[places] += np.abs(scores[places]) * growth
    return finite(scores, "exponential_decay_length_penalty", [start, factor])


def without_repeats(
    scores: Scores, tokens: Sequence[int], size: int, seen: Sequence[int]
) -> Scores:
    """Rule out tokens that would repeat an n-gram of ``seen`` (Paulus et al. 2017)."""
    if len(tokens) + 1 < size:
        return scores
    last = list(tokens[len(tokens) - size + 1 :])
    starts = range(len(seen) - size + 1)
    return blocked(
        scores, [seen[i + size - 1] for i in starts if list(seen[i : i + size - 1]) == last]
    )


def bad_sequences(words: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """Return the ids of words, both at the start of a text and after a space."""
    spelled = [spelling for word in words for spelling in (word, f" {word}")]
    return tokenizer.encode_batch(spelled, special=False)


def without(scores: Scores, tokens: Sequence[int], sequences: Sequence[Sequence[int]]) -> Scores:
    """Rule out tokens that would complete one of the sequences."""
    return blocked(scores, [ids[-1] for ids in sequences if _would_end(ids, tokens)])


def _would_end(ids: Sequence[int], tokens: Sequence[int]) -> bool:
    """Return whether a sequence's last id would complete it; longer sequences never match."""
    size = len(ids) - 1
    return not size or (size < len(tokens) and list(tokens[len(tokens) - size :]) == list(ids[:-1]))
