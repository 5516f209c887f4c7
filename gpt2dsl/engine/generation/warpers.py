"""Logits warpers: modify the sampling distribution, in the order of transformers 4.57.6."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.engine.generation.scores import Processor, Scores, log_softmax, softmax
from gpt2dsl.parts import Generation


def warpers(g: Generation, ends: int) -> list[Processor]:
    """Return the active warpers.

    Args:
        g: generation settings.
        ends: number of ids that end a text.
    """
    # Beams need candidates besides the end tokens.
    least = ends + 1 if g.beams > 1 else 1
    active: list[Processor] = []
    if g.temperature != 1:
        active.append(lambda scores, _: tempered(scores, g.temperature))
    if g.top_k:
        active.append(lambda scores, _: top_k(scores, max(g.top_k, least)))
    if g.top_p < 1:
        active.append(lambda scores, _: top_p(scores, g.top_p, least))
    if g.min_p:
        active.append(lambda scores, _: min_p(scores, g.min_p, least))
    if g.typical_p < 1:
        active.append(lambda scores, _: typical_p(scores, g.typical_p, least))
    if g.epsilon_cutoff:
        active.append(lambda scores, _: epsilon(scores, g.epsilon_cutoff, least))
    if g.eta_cutoff:
        active.append(lambda scores, _: eta(scores, g.eta_cutoff, least))
    return [partial(_of_any, warp) for warp in active]


def _of_any(warp: Processor, scores: Scores, tokens: Sequence[int]) -> Scores:
    """Warp the scores, unless all tokens are ruled out, which leaves no distribution."""
    return warp(scores, tokens) if scores.max() > -np.inf else scores


def tempered(scores: Scores, temperature: float) -> Scores:
    """Divide the scores by the temperature; on overflow, their differences to the best one."""
    with np.errstate(over="ignore"):
        divided = scores / temperature
        if np.isfinite(divided.max()) or not np.isfinite(scores.max()):
            return divided
        # subtracting the best score does not change the distribution
        return (scores - scores.max()) / temperature


def top_k(scores: Scores, k: int) -> Scores:
    """Keep the ``k`` highest scores, or all if ``k`` is 0 (Fan et al. 2018)."""
    if k == 0 or k >= len(scores):
        return scores
    return np.where(scores < _kth(scores, k), -np.inf, scores)


def top_p(scores: Scores, p: float, kept: int = 1) -> Scores:
    """Keep the fewest best tokens whose probabilities sum to ``p`` (Holtzman et al. 2019)."""
    if p >= 1:
        return scores
    candidates = np.flatnonzero(scores > -np.inf)
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    probabilities = softmax(scores)[order]
    before = np.cumsum(probabilities) - probabilities
    before[:kept] = 0
    return _only(scores, order[before < p])


def min_p(scores: Scores, share: float, kept: int = 1) -> Scores:
    """Keep tokens with at least this share of the best one's probability (Nguyen et al. 2024)."""
    chosen = scores >= scores.max() + np.log(share)
    chosen[np.argsort(-scores, kind="stable")[:kept]] = True
    return np.where(chosen, scores, -np.inf)


def typical_p(scores: Scores, mass: float, kept: int = 1) -> Scores:
    """Keep tokens nearest the entropy, up to a probability of ``mass`` (Meister et al. 2022)."""
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


def epsilon(scores: Scores, least: float, kept: int = 1) -> Scores:
    """Keep tokens with at least this probability (Hewitt et al. 2022)."""
    return _cut(scores, least, kept)


def eta(scores: Scores, least: float, kept: int = 1) -> Scores:
    """Keep tokens with this probability, or less at high entropy (Hewitt et al. 2022)."""
    probabilities = softmax(scores)
    likely = probabilities > 0
    entropy = -(probabilities[likely] * np.log(probabilities[likely])).sum()
    return _cut(scores, min(least, float(np.sqrt(least) * np.exp(-entropy))), kept)


def _cut(scores: Scores, least: float, kept: int) -> Scores:
    """Keep tokens with at least this probability, and always the ``kept`` best ones."""
    rare = (softmax(scores) < least) & (scores < _kth(scores, min(kept, len(scores))))
    return np.where(rare, -np.inf, scores)


def _kth(scores: Scores, k: int) -> np.float64:
    """Return the k-th highest score."""
    score: np.float64 = np.partition(scores, -k)[-k]
    return score


def _only(scores: Scores, ids: NDArray[np.int64]) -> Scores:
    masked = np.full_like(scores, -np.inf)
    masked[ids] = scores[ids]
    return masked
