"""Decoding with an ONNX model: what ``model.decoding.Decoder`` is to the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.backend.turns import TURNS
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.lite import onnx_ports
from gpt2dsl.lite.onnx_ports import ATTENTION_MASK, GENERATES, INPUT_IDS, LOGITS, POSITION_IDS
from gpt2dsl.lite.runtimes.base import Arrays, Runtime

CHUNK = 64
"""Tokens of prompts that go in at once, as the logits of each come out."""

_SLACK = 64
"""Slots without a token that the cache may have before it is packed."""

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


class OnnxDecoder:
    """Decodes the rows of a batch, each at its own position.

    What comes out of the model goes in again: each step gives all rows one more slot of the cache,
    and the mask says which slots of a row hold its tokens.

    Args:
        runtime: runs the model.
        geometry: the network.
        limit: tokens of the longest row.
        rows: of the batch.
    """

    def __init__(self, runtime: Runtime, geometry: GPT2Config, limit: int, rows: int) -> None:
        self._runtime, self._geometry, self._limit = runtime, geometry, limit
        self._mask: Ids = np.zeros((rows, 0), np.int64)
        self._is_live = np.zeros(rows, bool)
        self._caches = empty_caches(self._geometry, rows)

    def reserve(self, tokens: int) -> None:  # noqa: ARG002  # caches grow as they need
        """Start anew; what rows held is gone."""
        self._mask = self._mask[:, :0]
        self._is_live[:] = False
        self._caches = empty_caches(self._geometry, len(self._mask))

    @TURNS
    def prefill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> Logits:
        """Take in prompts as these rows; ``[prompts, entries]`` of the token after each."""
        lengths = np.array([len(prompt) for prompt in prompts])
        whole = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        ids = np.zeros_like(whole)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        logits = np.zeros((len(prompts), self._geometry.vocab), np.float32)
        mask, caches = whole[:, :0], empty_caches(self._geometry, len(prompts))
        for start in range(0, lengths.max(), CHUNK):
            mask = whole[:, : start + CHUNK]
            new, caches = self._run(ids[:, start : start + CHUNK], mask, caches)
            last = lengths - 1 - start
            ends = np.flatnonzero((last >= 0) & (last < new.shape[1]))
            logits[ends] = new[ends, last[ends]]
        self._insert(rows, mask, caches)
        return logits

    @TURNS
    def step(self, ids: NDArray[np.int32]) -> Logits:
        """Take in one token a row, ``[rows]``; ``[rows, entries]`` of the token after it.

        Rows may be fewer than the batch's. One that is full overwrites its last token: it must be
        done with.
        """
        if self._mask.shape[1] > self._mask.sum(1).max() + _SLACK:
            self._pack()
        new = np.zeros((len(self._mask), 1), np.int64)
        new[: len(ids), 0] = ids
        mask = np.hstack([self._mask, np.ones_like(new)])
        logits, self._caches = self._run(new, mask, self._caches)
        self._mask = mask * self._is_live[:, None]
        return logits[: len(ids), 0]

    def release(self, row: int) -> None:
        """A row that is done with."""
        self._mask[row], self._is_live[row] = 0, False

    def clear(self, row: int) -> None:
        """Release a row, and forget what it held."""
        self.release(row)
        for cache in self._caches.values():
            cache[row] = 0

    def reorder(self, source: NDArray[np.int64]) -> None:
        """Give each row what the row ``source[row]`` holds."""
        rows = np.arange(len(self._mask))
        rows[: len(source)] = source
        self._mask, self._is_live = self._mask[rows], self._is_live[rows]
        self._caches = {name: cache[rows] for name, cache in self._caches.items()}

    def _run(self, ids: Ids, mask: Ids, caches: Arrays) -> tuple[Logits, Arrays]:
        """Return the logits of all new tokens, and the caches with them."""
        numbers = np.clip(mask.cumsum(1) - 1, 0, self._limit - 1)
        positions = numbers[:, mask.shape[1] - ids.shape[1] :]
        feeds = {INPUT_IDS: ids, ATTENTION_MASK: mask, POSITION_IDS: positions, **caches}
        outputs = self._runtime.run(GENERATES, feeds)
        logits = outputs.pop(LOGITS)
        return logits, dict(zip(caches, outputs.values(), strict=True))

    def _insert(self, rows: Sequence[int], mask: Ids, caches: Arrays) -> None:
        """Put rows that were filled by themselves in the place of rows of the batch."""
        length = max(mask.shape[1], self._mask.shape[1])
        self._mask = _widened(self._mask, length, 1)
        self._mask[list(rows)] = _widened(mask, length, 1)
        self._is_live[list(rows)] = True
        for name, cache in self._caches.items():
            widened = _widened(cache, length, 2)
            widened[list(rows), :, : mask.shape[1]] = caches[name]
            self._caches[name] = widened

    def _pack(self) -> None:
        """Move the slots that hold tokens to the front, and drop the others."""
        length = self._mask.sum(1).max()
        order = np.argsort(1 - self._mask, axis=1, kind="stable")[:, :length]
        self._mask = np.take_along_axis(self._mask, order, 1)
        for name, cache in self._caches.items():
            self._caches[name] = np.take_along_axis(cache, order[:, None, :, None], 2)


def empty_caches(geometry: GPT2Config, rows: int) -> Arrays:
    """Return the caches of rows without tokens, as a model takes them."""
    shape = (rows, geometry.heads, 0, geometry.head_width)
    return {
        onnx_ports.past(layer, kind): np.zeros(shape, np.float32)
        for layer in range(geometry.layers)
        for kind in ("key", "value")
    }


def _widened(array: NDArray[Any], length: int, axis: int) -> NDArray[Any]:
    """Return a copy with zeros behind an axis."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, length - array.shape[axis])
    return np.pad(array, widths)
