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


def rows_of(step: int, batch_size: int, rows: int, seed: int) -> Indices:
    """Return the rows of a step's global batch, over all ranks."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, places = positions // rows, positions % rows
    indices = np.empty(batch_size, np.int64)
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
