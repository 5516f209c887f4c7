"""Decoding with exported graphs: what ``model.decoding.Decoder`` is to the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.backend.turns import TURNS
from gpt2dsl.lite.runtimes.base import Arrays, Runtime
from gpt2dsl.lite.shapes import IDS, INCREMENT, LOGITS, POSITION, PREFILL, VALID, Shapes


class ExportedDecoder:
    """Decodes the rows of a batch, each at its own position; caches lie here, not in the runtime.

    Args:
        runtime: runs the graphs.
        shapes: the sizes that they are for.
        entries: ids of which logits are wanted.
    """

    def __init__(self, runtime: Runtime, shapes: Shapes, entries: int) -> None:
        self._runtime, self._shapes, self._entries = runtime, shapes, entries
        self._positions = np.zeros(shapes.batch, np.int32)
        self._caches: Arrays = {
            port.name: np.zeros(port.shape, np.float32) for port in shapes.inputs(INCREMENT)[2:]
        }

    def reserve(self, tokens: int) -> None:  # noqa: ARG002  # its caches have one length
        """Start anew; what rows held is gone."""
        self._positions[:] = 0

    @TURNS
    def prefill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Take in prompts as these rows; ``[prompts, entries]`` of the token after each."""
        batch, length = self._shapes.batch, self._shapes.length
        ids, valid = np.zeros((batch, length), np.int32), np.ones(batch, np.int32)
        for row, prompt in zip(rows, prompts, strict=True):
            ids[row, : len(prompt)], valid[row] = prompt, len(prompt)
        found = self._runtime.run(PREFILL, {IDS: ids, VALID: valid})
        taken = np.array(rows)
        for name, cache in self._caches.items():
            self._by_row(cache)[taken] = self._by_row(found[f"new_{name}"])[taken]
        self._positions[taken] = valid[taken]
        return self._of(found)[taken]

    @TURNS
    def step(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Take in one token a row, ``[rows]``; ``[rows, entries]`` of the token after it.

        Rows may be fewer than the graph's. One that is full overwrites its last token: it must be
        done with.
        """
        rows = np.arange(self._shapes.batch)
        all_ids = np.zeros((len(rows), 1), np.int32)
        all_ids[: len(ids), 0] = ids
        at = np.minimum(self._positions, self._shapes.length - 1)
        found = self._runtime.run(INCREMENT, {IDS: all_ids, POSITION: at, **self._caches})
        for name, cache in self._caches.items():
            new, old = self._by_row(found[f"new_{name}"]), self._by_row(cache)  # [B, H, ., .]
            if name.startswith("key"):
                old[rows, :, :, at] = new[..., 0]
            else:
                old[rows, :, at] = new[:, :, 0]
        self._positions = at + 1
        return self._of(found)[: len(ids)]

    def release(self, row: int) -> None:
        """A row that is done with."""
        self._positions[row] = 0

    def clear(self, row: int) -> None:
        """Release a row, and forget what it held."""
        self.release(row)
        for cache in self._caches.values():
            self._by_row(cache)[row] = 0

    def reorder(self, source: NDArray[np.int64]) -> None:
        """Give each row what the row ``source[row]`` holds."""
        rows = np.arange(len(source))
        self._positions[rows] = self._positions[source]
        for cache in self._caches.values():
            by_row = self._by_row(cache)
            by_row[rows] = by_row[source]

    def _by_row(self, cache: NDArray[Any]) -> NDArray[Any]:
        """``[B H, ., .] → [B, H, ., .]``, without a copy."""
        return cache.reshape(self._shapes.batch, self._shapes.geometry.heads, *cache.shape[1:])

    def _of(self, found: Arrays) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = np.array(found[LOGITS][:, : self._entries])
        return logits
