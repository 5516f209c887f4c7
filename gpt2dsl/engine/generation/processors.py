"""What is done to the scores of the next token, in the order of transformers 4.57.6.

Scores are float64 ``[vocab]``, of one text; what may not come has minus infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.errors import RunError
from gpt2dsl.parts import Generation

Scores = NDArray[np.float64]
Processor = Callable[[Scores, Sequence[int]], Scores]


def processors(
    generation: Generation, tokenizer: Tokenizer, prompt: int, ends: Sequence[int]
) -> list[Processor]:
    """Those that change something; each takes scores and the ids that were said.

    Args:
        generation: how.
        tokenizer: of the bad words.
        prompt: tokens of it.
        ends: ids after which the text is over.
    """
    g = generation
    found: list[Processor] = []
    if g.repetition_penalty != 1:
        found.append(lambda scores, said: penalised(scores, said, g.repetition_penalty))
    if g.no_repeat_ngram_size:
        found.append(lambda scores, said: without_repeats(scores, said, g.no_repeat_ngram_size))
    if g.bad_words:
        bad = [
            ids for ids in bad_sequences(g.bad_words, tokenizer) if ids not in [[e] for e in ends]
        ]
        found.append(lambda scores, said: without(scores, said, bad))
    if shortest := max(g.min_length, prompt + g.min_new_tokens if g.min_new_tokens else 0):
        found.append(lambda scores, said: blocked(scores, ends) if len(said) < shortest else scores)
    return [*found, *(_warpers(g, len(ends)) if g.do_sample else ())]


def _warpers(g: Generation, ends: int) -> list[Processor]:
    """What changes the distribution that is drawn from."""
    # Beams need candidates besides the ends.
    kept = ends + 1 if g.beams > 1 else 1
    found: list[Processor] = []
    if g.temperature != 1:
        found.append(lambda scores, _: scores / g.temperature)
    if g.top_k:
        found.append(lambda scores, _: top_k(scores, max(g.top_k, kept)))
    if g.top_p < 1:
        found.append(lambda scores, _: top_p(scores, g.top_p, kept))
    if g.min_p:
        found.append(lambda scores, _: min_p(scores, g.min_p, kept))
    if g.typical_p < 1:
        found.append(lambda scores, _: typical_p(scores, g.typical_p, kept))
    return found


def penalised(scores: Scores, said: Sequence[int], penalty: float) -> Scores:
    """Scores of tokens that were said, divided if positive, multiplied if not (Keskar 2019)."""
    scores = scores.copy()
    seen = np.unique(np.asarray(said, dtype=np.int64))
    scores[seen] = np.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
    return scores


def without_repeats(scores: Scores, said: Sequence[int], size: int) -> Scores:
    """No token that would end a sequence of ``size`` tokens that was said (Paulus et al. 2017)."""
    last = list(said[len(said) - size + 1 :])
    starts = range(len(said) - size + 1)
    return blocked(
        scores, [said[i + size - 1] for i in starts if list(said[i : i + size - 1]) == last]
    )


def bad_sequences(words: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """The ids of texts, at the start of a text and after a space."""
    spelled = [spelling for word in words for spelling in (word, f" {word}")]
    return tokenizer.encode_batch(spelled, special=False)


def without(scores: Scores, said: Sequence[int], sequences: Sequence[Sequence[int]]) -> Scores:
    """No token that would end one of the sequences."""
    ended = [
        ids[-1]
        for ids in sequences
        if len(ids) == 1
        or (len(ids) <= len(said) and list(said[len(said) - len(ids) + 1 :]) == list(ids[:-1]))
    ]
    return blocked(scores, ended)


def blocked(scores: Scores, ids: Sequence[int]) -> Scores:
    """None of these ids."""
    if not ids:
        return scores
    scores = scores.copy()
    scores[list(ids)] = -np.inf
    return scores


def top_k(scores: Scores, k: int) -> Scores:
    """The ``k`` best scores, the others at minus infinity; 0 keeps all (Fan et al. 2018)."""
    if k == 0 or k >= len(scores):
        return scores
    kth = np.partition(scores, -k)[-k]
    return np.where(scores < kth, -np.inf, scores)


def top_p(scores: Scores, p: float, kept: int = 1) -> Scores:
    """The smallest set of best scores whose probability reaches ``p`` (Holtzman et al. 2019)."""
    if p >= 1:
        return scores
    candidates = np.flatnonzero(scores > -np.inf)
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    probabilities = softmax(scores)[order]
    before = np.cumsum(probabilities) - probabilities
    before[:kept] = 0
    return _only(scores, order[before < p])


def min_p(scores: Scores, share: float, kept: int = 1) -> Scores:
    """What has this share of the best one's probability (Nguyen et al. 2024)."""
    chosen = scores >= scores.max() + np.log(share)
    chosen[np.argsort(-scores, kind="stable")[:kept]] = True
    return np.where(chosen, scores, -np.inf)


def typical_p(scores: Scores, mass: float, kept: int = 1) -> Scores:
    """The scores nearest the entropy whose probability reaches ``mass`` (Meister et al. 2022)."""
    candidates = np.flatnonzero(scores > -np.inf)
    probabilities = softmax(scores)[candidates]
    surprise = -log_softmax(scores)[candidates]
    entropy = (probabilities * surprise)[probabilities > 0].sum()
    distance = np.abs(surprise - entropy)
    order = np.argsort(distance, kind="stable")
    last = min(int((np.cumsum(probabilities[order]) < mass).sum()), len(order) - 1)
    near = distance[order] <= distance[order[last]]
    near[:kept] = True
    return _only(scores, candidates[order[near]])


def _only(scores: Scores, ids: NDArray[np.int64]) -> Scores:
    found = np.full_like(scores, -np.inf)
    found[ids] = scores[ids]
    return found


def refuse_nan(logits: NDArray[np.float32]) -> None:
    """Refuses what no token can be chosen by, of any shape.

    Raises:
        RunError: a score is no number.
    """
    if np.isnan(logits.max()):
        raise RunError("no token can be chosen by its score: the model gives none [G2-402]")


def softmax(scores: Scores) -> Scores:
    """Probabilities of scores."""
    weights = np.exp(scores - scores.max())
    probabilities: Scores = weights / weights.sum()
    return probabilities


def log_softmax(scores: Scores) -> Scores:
    """Log-probabilities of scores over the last axis."""
    shifted = scores - scores.max(-1, keepdims=True)
    found: Scores = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found
