"""Decoder for ONNX models with dynamic axes, with the interface of ``KVCacheDecoder``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.backend.turns import TURNS
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.lite import onnx_ports
from gpt2dsl.lite.onnx_ports import ATTENTION_MASK, GENERATES, INPUT_IDS, LOGITS, POSITION_IDS
from gpt2dsl.lite.runtimes.base import Arrays, GraphRuntime

CHUNK = 64
"""Prompt tokens per run, limited as the model returns logits of each."""

_SLACK = 64
"""Maximum number of unused slots in the cache before it is packed."""

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


class OnnxDecoder:
    """Batched decoder, with a position per row and at most ``limit`` tokens of each.

    The model's present keys and values become its next past: each step adds one slot to the cache
    of all rows, and the mask marks the slots with a row's tokens.
    """

    def __init__(self, runtime: GraphRuntime, geometry: GPT2Config, limit: int, rows: int) -> None:
        self._runtime, self._geometry, self._limit = runtime, geometry, limit
        self._mask: Ids = np.zeros((rows, 0), np.int64)
        self._is_live = np.zeros(rows, bool)
        self._caches = empty_caches(self._geometry, rows)

    def reserve(self, tokens: int) -> None:  # noqa: ARG002  # caches grow on demand
        """Reset all rows and their caches."""
        self._mask = self._mask[:, :0]
        self._is_live[:] = False
        self._caches = empty_caches(self._geometry, len(self._mask))

    @TURNS
    def prefill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> Logits:
        """Prefill these rows with prompts; return next-token logits ``[prompts, entries]``."""
        lengths = np.array([len(prompt) for prompt in prompts])
        mask_of_prompts = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        ids = np.zeros_like(mask_of_prompts)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        logits = np.zeros((len(prompts), self._geometry.vocab), np.float32)
        mask, caches = mask_of_prompts[:, :0], empty_caches(self._geometry, len(prompts))
        for start in range(0, lengths.max(), CHUNK):
            mask = mask_of_prompts[:, : start + CHUNK]
            new, caches = self._run(ids[:, start : start + CHUNK], mask, caches)
            last = lengths - 1 - start
            ends = np.flatnonzero((last >= 0) & (last < new.shape[1]))
            logits[ends] = new[ends, last[ends]]
        self._insert(rows, mask, caches)
        return logits

    @TURNS
    def step(self, ids: NDArray[np.int32]) -> Logits:
        """Append one token per row, ``[rows]``; return next-token logits ``[rows, entries]``.

        There may be fewer rows than in the batch. A full row overwrites its last token, so it must
        have been released.
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
        """Mark a row as finished."""
        self._mask[row], self._is_live[row] = 0, False

    def clear(self, row: int) -> None:
        """Release a row and zero its cache."""
        self.release(row)
        for cache in self._caches.values():
            cache[row] = 0

    def reorder(self, source: NDArray[np.int64]) -> None:
        """Copy to each row the state of row ``source[row]``."""
        rows = np.arange(len(self._mask))
        rows[: len(source)] = source
        self._mask, self._is_live = self._mask[rows], self._is_live[rows]
        self._caches = {name: cache[rows] for name, cache in self._caches.items()}

    def _run(self, ids: Ids, mask: Ids, caches: Arrays) -> tuple[Logits, Arrays]:
        """Return the logits of all new tokens, and the extended caches."""
        numbers = np.clip(mask.cumsum(1) - 1, 0, self._limit - 1)
        positions = numbers[:, mask.shape[1] - ids.shape[1] :]
        feeds = {INPUT_IDS: ids, ATTENTION_MASK: mask, POSITION_IDS: positions, **caches}
        outputs = self._runtime.run(GENERATES, feeds)
        logits = outputs.pop(LOGITS)
        return logits, dict(zip(caches, outputs.values(), strict=True))

    def _insert(self, rows: Sequence[int], mask: Ids, caches: Arrays) -> None:
        """Replace rows of the batch with separately prefilled ones."""
        length = max(mask.shape[1], self._mask.shape[1])
        self._mask = _widened(self._mask, length, 1)
        self._mask[list(rows)] = _widened(mask, length, 1)
        self._is_live[list(rows)] = True
        for name, cache in self._caches.items():
            widened = _widened(cache, length, 2)
            widened[list(rows), :, : mask.shape[1]] = caches[name]
            self._caches[name] = widened

    def _pack(self) -> None:
        """Move used slots of the cache to the front and drop the others."""
        length = self._mask.sum(1).max()
        order = np.argsort(1 - self._mask, axis=1, kind="stable")[:, :length]
        self._mask = np.take_along_axis(self._mask, order, 1)
        for name, cache in self._caches.items():
            self._caches[name] = np.take_along_axis(cache, order[:, None, :, None], 2)


def empty_caches(geometry: GPT2Config, rows: int) -> Arrays:
    """Return empty KV caches as inputs of a model."""
    shape = (rows, geometry.heads, 0, geometry.head_width)
    return {
        onnx_ports.past(layer, kind): np.zeros(shape, np.float32)
        for layer in range(geometry.layers)
        for kind in ("key", "value")
    }


def _widened(array: NDArray[Any], length: int, axis: int) -> NDArray[Any]:
    """Return a copy padded with zeros at the end of an axis."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, length - array.shape[axis])
    return np.pad(array, widths)
