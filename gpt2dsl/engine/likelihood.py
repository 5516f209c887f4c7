"""Log-probabilities of given texts, as lm-eval's ``LM`` interface defines them."""

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
"""The ids of a context, at least one, and of what follows it."""


class Likelihood(NamedTuple):
    """How likely a text is after another.

    Attributes:
        logprob: the sum of its tokens' log-probabilities, nats.
        is_greedy: whether each token is the likeliest in its place.
    """

    logprob: float
    is_greedy: bool


def likelihoods(prefill: ChunkedPrefill, pairs: Sequence[Pair], positions: int) -> list[Likelihood]:
    """Return how likely each continuation is; what contexts begin with alike is computed once.

    Args:
        prefill: computes their logits.
        pairs: contexts, of which the beginning is cut off where both do not fit, and continuations
            of at most ``positions`` tokens.
        positions: tokens that the model takes.
    """
    inputs = [[*context, *continuation][-positions - 1 :][:-1] for context, continuation in pairs]
    found = [Likelihood(0.0, is_greedy=True)] * len(pairs)
    held: list[int] = []
    # In this order each shares as much with the one before it as with any.
    for i in sorted(range(len(pairs)), key=inputs.__getitem__):
        ids, continuation = inputs[i], pairs[i][1]
        if continuation:
            found[i] = _likelihood(prefill, ids, continuation, _common(held, ids))
            held = ids
    return found


def _likelihood(prefill: ChunkedPrefill, ids: Ids, continuation: Ids, common: int) -> Likelihood:
    """Score a continuation, whose last token is not among ``ids``, nor ``common`` ones computed.

    Chunks begin at multiples of their size, so that what they give depends on ``ids`` alone.
    """
    first = len(ids) - len(continuation)  # the token after which the continuation begins
    logprob, is_greedy = 0.0, True
    for start in range(min(common, first) // CHUNK * CHUNK, len(ids), CHUNK):
        hidden = prefill.take(ids[start : start + CHUNK], start)
        begin, end = max(start, first), min(start + CHUNK, len(ids))
        if begin >= end:
            continue
        wanted = continuation[begin - first : end - first]
        logits = prefill.all_logits(hidden)[begin - start : end - start]
        refuse_nan(logits)
        logprob += float(_of_tokens(logits, wanted).sum())
        is_greedy = is_greedy and bool((logits.argmax(-1) == np.array(wanted)).all())
    return Likelihood(logprob, is_greedy)


def _of_tokens(logits: NDArray[np.float32], tokens: Ids) -> NDArray[np.float64]:
    """Return the log-probabilities of tokens, ``[tokens, vocab], [tokens] → [tokens]``."""
    logs = log_softmax(logits.astype(np.float64))
    return logs[np.arange(len(tokens)), np.array(tokens)]


def _common(one: Ids, other: Ids) -> int:
    """Return how many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def windows(ids: Ids, begin: int, positions: int) -> Iterator[Pair]:
    """Cut a text into continuations of as many tokens as fit, each with as long a context as fits.

    The first one's context is ``begin``, a whole window's the token before it.
    """
    whole = [begin, *ids]
    for start in range(0, len(ids), positions):
        end = min(start + positions, len(ids))
        first = max(0, end - positions)
        yield whole[first : start + 1], whole[start + 1 : end + 1]
