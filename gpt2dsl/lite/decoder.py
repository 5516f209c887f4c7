"""Decoder for exported graphs of fixed shapes, with the interface of ``KVCacheDecoder``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.backend.turns import TURNS
from gpt2dsl.lite.runtimes.base import Arrays, GraphRuntime
from gpt2dsl.lite.shapes import IDS, INCREMENT, LOGITS, POSITION, PREFILL, VALID, Shapes


class ExportedDecoder:
    """Batched decoder, with a position per row; it owns the KV caches, not the runtime.

    It returns logits of the ``entries`` leading ids.
    """

    def __init__(self, runtime: GraphRuntime, shapes: Shapes, entries: int) -> None:
        self._runtime, self._shapes, self._entries = runtime, shapes, entries
        self._positions = np.zeros(shapes.batch, np.int32)
        self._caches: Arrays = {
            port.name: np.zeros(port.shape, np.float32) for port in shapes.inputs(INCREMENT)[2:]
        }

    def reserve(self, tokens: int) -> None:  # noqa: ARG002  # its caches have a fixed length
        """Reset all rows and their caches."""
        self._positions[:] = 0

    @TURNS
    def prefill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Prefill these rows with prompts; return next-token logits ``[prompts, entries]``."""
        batch, length = self._shapes.batch, self._shapes.length
        ids, valid = np.zeros((batch, length), np.int32), np.ones(batch, np.int32)
        for row, prompt in zip(rows, prompts, strict=True):
            ids[row, : len(prompt)], valid[row] = prompt, len(prompt)
        outputs = self._runtime.run(PREFILL, {IDS: ids, VALID: valid})
        selected = np.array(rows)
        for name, cache in self._caches.items():
            self._by_row(cache)[selected] = self._by_row(outputs[f"new_{name}"])[selected]
        self._positions[selected] = valid[selected]
        return self._logits(outputs)[selected]

    @TURNS
    def step(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Append one token per row, ``[rows]``; return next-token logits ``[rows, entries]``.

        There may be fewer rows than in the graph. A full row overwrites its last token, so it must
        have been released.
        """
        rows = np.arange(self._shapes.batch)
        all_ids = np.zeros((len(rows), 1), np.int32)
        all_ids[: len(ids), 0] = ids
        slots = np.minimum(self._positions, self._shapes.length - 1)
        outputs = self._runtime.run(INCREMENT, {IDS: all_ids, POSITION: slots, **self._caches})
        for name, cache in self._caches.items():
            new, old = self._by_row(outputs[f"new_{name}"]), self._by_row(cache)  # [B, H, ., .]
            if name.startswith("key"):
                old[rows, :, :, slots] = new[..., 0]
            else:
                old[rows, :, slots] = new[:, :, 0]
        self._positions = slots + 1
        return self._logits(outputs)[: len(ids)]

    def release(self, row: int) -> None:
        """Mark a row as finished."""
        self._positions[row] = 0

    def clear(self, row: int) -> None:
        """Release a row and zero its cache."""
        self.release(row)
        for cache in self._caches.values():
            self._by_row(cache)[row] = 0

    def reorder(self, source: NDArray[np.int64]) -> None:
        """Copy to each row the state of row ``source[row]``."""
        rows = np.arange(len(source))
        self._positions[rows] = self._positions[source]
        for cache in self._caches.values():
            by_row = self._by_row(cache)
            by_row[rows] = by_row[source]

    def _by_row(self, cache: NDArray[Any]) -> NDArray[Any]:
        """Return a view ``[B H, ., .] → [B, H, ., .]``."""
        return cache.reshape(self._shapes.batch, self._shapes.geometry.heads, *cache.shape[1:])

    def _logits(self, outputs: Arrays) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = np.array(outputs[LOGITS][:, : self._entries])
        return logits
