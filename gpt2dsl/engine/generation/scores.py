"""Next-token scores, and functions on them.

Scores are float64 ``[vocab]`` of one text; tokens that are ruled out score minus infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import RunError

Scores = NDArray[np.float64]
Processor = Callable[[Scores, Sequence[int]], Scores]


class NoChoiceError(RunError):
    """Settings that leave a text no token to choose."""


def blocked(scores: Scores, ids: Sequence[int]) -> Scores:
    """Rule out these ids."""
    if not ids:
        return scores
    scores = scores.copy()
    scores[list(ids)] = -np.inf
    return scores


def forced(scores: Scores, ids: Sequence[int]) -> Scores:
    """Rule out all ids but these."""
    chosen = np.full_like(scores, -np.inf)
    chosen[list(ids)] = 0.0
    return chosen


def refuse_nan(logits: NDArray[np.float32]) -> None:
    """Refuse logits of any shape that contain NaN.

    Raises:
        RunError: a logit is NaN.
    """
    if np.isnan(logits.max()):
        raise RunError("G2-402", "no token can be chosen by its score: the model gives none")


def finite(scores: Scores, key: str, value: object) -> Scores:
    """Return the scores, unless the value of a key has made one infinite or NaN.

    Raises:
        NoChoiceError: a score is infinite or NaN.
    """
    if not scores.max() < np.inf:
        message = f"generation.{key} = {value} makes it infinite or no number"
        raise NoChoiceError("G2-402", f"no token can be chosen by its score: {message}")
    return scores


def softmax(scores: Scores) -> Scores:
    """Return the probabilities of scores."""
    with np.errstate(over="ignore"):  # scores that are far apart
        weights = np.exp(scores - scores.max())
    probabilities: Scores = weights / weights.sum()
    return probabilities


def log_softmax(scores: Scores) -> Scores:
    """Return log-probabilities over the last axis."""
    with np.errstate(over="ignore"):  # as above
        shifted = scores - scores.max(-1, keepdims=True)
    logs: Scores = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logs
