"""Dropout masks as a function of (seed, step, layer, place, row, head): no state, no MindSpore.

Each mask is cut from a stream of Philox (Salmon et al. 2011) whose key is the seed and the step,
and whose counter starts at the place: masks are the same in any layout and after any resume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.layout.geometry import Geometry

Mask = NDArray[np.bool_]

LEVELS = 2**16
"""Masks compare 16 random bits with a threshold."""

EMBEDDING, ATTENTION, ATTENTION_OUT, MLP_OUT = range(4)
"""The places of a layer; the embedding stands before layer 0."""


def keep(probability: float) -> float:
    """The exact probability with which masks keep an element, for a dropout probability."""
    return _threshold(probability) / LEVELS


def masks(
    geometry: Geometry, seed: int, step: int, rows: Sequence[int], time: int
) -> Iterator[Mask]:
    """The masks of a step, in the order in which the network takes them; True is kept.

    Args:
        geometry: the network; no masks where its dropout is 0.
        seed: of the run.
        step: steps done before this one.
        rows: places of the rows in the step's global batch.
        time: tokens of a row.

    Yields:
        ``[b t, h]`` of the embedding, then for each layer ``[b n, t, t]`` of the attention,
        ``[b t, h]`` of its projection and ``[b t, h]`` of the MLP's.
    """
    if geometry.dropout == 0:
        return
    threshold = _threshold(geometry.dropout)
    heads, hidden = range(geometry.heads), geometry.hidden

    def hidden_mask(layer: int, place: int) -> Mask:
        mask = np.empty((len(rows), time, hidden), np.bool_)
        for i, row in enumerate(rows):
            _fill(mask[i], threshold, seed, step, layer, place, row, 0)
        return mask.reshape(-1, hidden)

    yield hidden_mask(0, EMBEDDING)
    for layer in range(geometry.layers):
        mask = np.empty((len(rows), len(heads), time, time), np.bool_)
        for i, row in enumerate(rows):
            for head in heads:
                _fill(mask[i, head], threshold, seed, step, layer, ATTENTION, row, head)
        yield mask.reshape(-1, time, time)
        yield hidden_mask(layer, ATTENTION_OUT)
        yield hidden_mask(layer, MLP_OUT)


def _fill(
    mask: Mask, threshold: int, seed: int, step: int, layer: int, place: int, row: int, head: int
) -> None:
    """Draw one row's and one head's part of a mask, in place."""
    counter = np.array([0, head, row, layer << 8 | place], np.uint64)
    stream = np.random.Philox(key=np.array([seed, step], np.uint64), counter=counter)
    words = stream.random_raw(-(-mask.size // 4))
    bits = words.view(np.uint16)[: mask.size].reshape(mask.shape)
    np.less(bits, threshold, out=mask)


def _threshold(probability: float) -> int:
    return round((1 - probability) * LEVELS)
