"""Log-likelihoods of given texts, as lm-eval's ``LM`` interface defines them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.engine.generation.scores import log_softmax, refuse_nan
from gpt2dsl.model.chunk import CHUNK
from gpt2dsl.model.chunked_prefill import ChunkedPrefill

Ids = Sequence[int]
Pair = tuple[Ids, Ids]
"""The ids of a context, at least one, and of its continuation."""


class Likelihood(NamedTuple):
    """The likelihood of a continuation given its context.

    Attributes:
        logprob: sum of its tokens' log-probabilities, in nats.
        is_greedy: whether each token is the most likely one at its position.
    """

    logprob: float
    is_greedy: bool


def likelihoods(prefill: ChunkedPrefill, pairs: Sequence[Pair], positions: int) -> list[Likelihood]:
    """Return the likelihood of each continuation; shared prefixes of contexts are computed once.

    Args:
        prefill: computes the logits.
        pairs: contexts, truncated on the left if both do not fit, and continuations of at most
            ``positions`` tokens.
        positions: maximum positions of the model.
    """
    inputs = [[*context, *continuation][-positions - 1 :][:-1] for context, continuation in pairs]
    scores = [Likelihood(0.0, is_greedy=True)] * len(pairs)
    cached: list[int] = []
    # In sorted order, each input shares its longest common prefix with the one before it.
    for i in sorted(range(len(pairs)), key=inputs.__getitem__):
        ids, continuation = inputs[i], pairs[i][1]
        if continuation:
            scores[i] = _likelihood(prefill, ids, continuation, _common(cached, ids))
            cached = ids
    return scores


def _likelihood(prefill: ChunkedPrefill, ids: Ids, continuation: Ids, common: int) -> Likelihood:
    """Score a continuation whose last token is not in ``ids``; skip ``common`` cached tokens.

    Chunks begin at multiples of their size, so that their results depend on ``ids`` alone.
    """
    first = len(ids) - len(continuation)  # the token after which the continuation begins
    logprob, is_greedy = 0.0, True
    for start in range(min(common, first) // CHUNK * CHUNK, len(ids), CHUNK):
        hidden = prefill.take(ids[start : start + CHUNK], start)
        begin, end = max(start, first), min(start + CHUNK, len(ids))
        if begin >= end:
            continue
        targets = continuation[begin - first : end - first]
        logits = prefill.all_logits(hidden)[begin - start : end - start]
        refuse_nan(logits)
        logprob += float(_of_tokens(logits, targets).sum())
        is_greedy = is_greedy and bool((logits.argmax(-1) == np.array(targets)).all())
    return Likelihood(logprob, is_greedy)


def _of_tokens(logits: NDArray[np.float32], tokens: Ids) -> NDArray[np.float64]:
    """Return the log-probabilities of tokens, ``[tokens, vocab], [tokens] → [tokens]``."""
    logs = log_softmax(logits.astype(np.float64))
    return logs[np.arange(len(tokens)), np.array(tokens)]


def _common(one: Ids, other: Ids) -> int:
    """Return the length of the common prefix."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def windows(ids: Ids, begin: int, positions: int) -> Iterator[Pair]:
    """Yield windows of a text: continuations of maximal length, each with the longest context.

    The first window's context is ``begin``; that of a full window is the token before it.
    """
    tokens = [begin, *ids]
    for start in range(0, len(ids), positions):
        end = min(start + positions, len(ids))
        first = max(0, end - positions)
        yield tokens[first : start + 1], tokens[start + 1 : end + 1]
