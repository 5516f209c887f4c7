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


def rows_of(step: int, batch_size: int, rows: int, seed: int) -> Indices:
    """The rows of a step's global batch; ranks divide them among themselves.

    Args:
        step: steps done before this one.
        batch_size: rows a step, over all ranks.
        rows: rows of the data.
        seed: of the order.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, places = positions // rows, positions % rows
    indices = np.empty(batch_size, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        now = epochs == epoch
        indices[now] = permutation(rows, seed, epoch)[places[now]]
    return indices


@lru_cache(maxsize=2)
def permutation(rows: int, seed: int, epoch: int) -> Indices:
    """The order of the rows in one epoch; read-only.

    It sorts Philox's raw numbers: these are the same in every NumPy, what
    ``Generator.permutation`` makes of them need not be.
    """
    seeds: Any = np.random.SeedSequence([seed, epoch])
    numbers = np.random.Philox(seeds).random_raw(rows)
    order = np.argsort(numbers, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order
