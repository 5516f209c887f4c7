"""From logits to the next token: transformers' processors, in transformers' order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.parts import Generation

Scores = NDArray[np.float64]


class Sampler:
    """Chooses the next token of one text.

    Args:
        generation: how.
        row: the text's number in its batch, so that equal prompts draw differently.
    """

    def __init__(self, generation: Generation, row: int) -> None:
        self._generation = generation
        self._random = np.random.default_rng([generation.seed, row])

    def next(self, logits: NDArray[np.float32], said: Sequence[int]) -> int:
        """The next token.

        Args:
            logits: ``[vocab]``.
            said: the tokens of the prompt and of what was generated.
        """
        g = self._generation
        scores = logits.astype(np.float64)
        if g.repetition_penalty != 1.0:
            scores = penalised(scores, said, g.repetition_penalty)
        if not g.do_sample:
            return int(scores.argmax())
        scores = top_p(top_k(scores / g.temperature, g.top_k), g.top_p)
        return int(self._random.choice(len(scores), p=softmax(scores)))


def penalised(scores: Scores, said: Sequence[int], penalty: float) -> Scores:
    """Scores of tokens that were said, divided if positive, multiplied if not (Keskar 2019)."""
    scores = scores.copy()
    seen = np.unique(np.asarray(said, dtype=np.int64))
    scores[seen] = np.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
    return scores


def top_k(scores: Scores, k: int) -> Scores:
    """The ``k`` best scores, the others at minus infinity; 0 keeps all (Fan et al. 2018)."""
    if k == 0 or k >= len(scores):
        return scores
    kth = np.partition(scores, -k)[-k]
    return np.where(scores < kth, -np.inf, scores)


def top_p(scores: Scores, p: float) -> Scores:
    """The smallest set of best scores whose probability reaches ``p`` (Holtzman et al. 2019)."""
    if p >= 1:
        return scores
    order = np.argsort(-scores, kind="stable")
    before = np.cumsum(softmax(scores)[order]) - softmax(scores)[order]
    kept = scores.copy()
    kept[order[before >= p]] = -np.inf
    return kept


def softmax(scores: Scores) -> Scores:
    """Probabilities of scores ``[vocab]``."""
    weights = np.exp(scores - scores.max())
    probabilities: Scores = weights / weights.sum()
    return probabilities
