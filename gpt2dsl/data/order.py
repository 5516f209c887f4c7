"""Which rows a step reads. It is a function of the step's number, so a resume needs no state.

The rows of all epochs form one stream, each epoch in an order of its own; a step takes the next
batch of it. A batch may lie across the border of two epochs.
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
    """Return the rows of a step's global batch, or the share of one data-parallel rank.

    Args:
        step: steps done before this one.
        batch_size: rows a step, over all ranks; they divide it.
        rows: rows of the data.
        seed: of the order.
        rank: whose share; from 0.
        ranks: how many share the batch, each a run of consecutive rows of it.
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

    It sorts Philox's raw numbers: these are the same in every NumPy, what
    ``Generator.permutation`` makes of them need not be.
    """
    seeds: Any = np.random.SeedSequence([seed, epoch])
    numbers = np.random.Philox(seeds).random_raw(rows)
    order = np.argsort(numbers, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order
