"""Order of the rows: a function of seed and step, so that a resume needs no state.

The rows of all epochs form one stream, each epoch in a permutation of its own; a step takes the
next batch of it. A batch may cross the boundary of two epochs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def rows_of(
    step: int, batch_size: int, rows: int, seed: int, *, rank: int = 0, ranks: int = 1
) -> Indices:
    """Return the rows of a step's global batch, or those of one data parallel rank.

    Args:
        step: index of the step.
        batch_size: rows of a step over all ranks, a multiple of ``ranks``.
        rows: rows of the data.
        seed: seed of the order.
        rank: data parallel rank.
        ranks: data parallel size; each rank has consecutive rows of the batch.
    """
    share = batch_size // ranks
    first = step * batch_size + rank * share
    positions = np.arange(first, first + share, dtype=np.int64)
    epochs, places = positions // rows, positions % rows
    indices = np.empty(share, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        now = epochs == epoch
        indices[now] = permutation(rows, seed, epoch)[places[now]]
    return indices


@lru_cache(maxsize=2)
def permutation(rows: int, seed: int, epoch: int) -> Indices:
    """Return the order of the rows in one epoch; read-only.

    Sorts raw numbers of Philox, which are the same in every version of NumPy, unlike the result of
    ``Generator.permutation``.
    """
    seeds: Any = np.random.SeedSequence([seed, epoch])
    numbers = np.random.Philox(seeds).random_raw(rows)
    order = np.argsort(numbers, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order
