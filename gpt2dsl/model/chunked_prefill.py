"""Chunked prefill: a prompt is processed a fixed number of tokens at a time.

One graph serves every prompt, so none waits for compilation. A chunk's output depends, bit for bit,
only on its own and preceding tokens, so its keys and values can be reused for later prompts with
the same prefix. Letters in shapes are those of gpt2.py, and c the tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.backend.memory import free_unused
from gpt2dsl.model.chunk import CHUNK
from gpt2dsl.model.decoding import DecodingCell, Embed
from gpt2dsl.model.gpt2 import GPT2, causal_mask
from gpt2dsl.model.kv_cache import Cache, cached_blocks, new_caches, parameters_of


class Chunk(DecodingCell):
    """Graph that processes the next chunk of one prompt, after the tokens in its KV cache."""

    def __init__(self, network: GPT2, caches: Sequence[Cache], length: int) -> None:
        super().__init__(network, length, CHUNK)
        self.network, self.blocks = network, cached_blocks(network, caches)
        self.first = Tensor(np.arange(network.heads, dtype=np.int32)[:, None] * length)  # [n, 1]
        self.order = Tensor(np.arange(length, dtype=np.int32)[None])  # [1, s]

    def construct(self, x: Tensor, positions: Tensor) -> Tensor:
        """Write keys and values, then attend causally: ``[c, h], [c] → [c, h]``.

        Those of padding lie past the prompt and stay masked until they are overwritten.
        """
        rows = (self.first + positions.reshape((1, -1))).reshape((-1,))  # [n c]
        mask = causal_mask(positions.reshape((-1, 1)), self.order).expand_dims(0)  # [1, c, s]
        mask = self.network.tile(mask, (self.network.heads, 1, 1))  # [n, c, s]
        x, _ = self.network.run_blocks(self.blocks, x, mask, rows)
        return x


class Head(DecodingCell):
    """Graph that computes the logits of selected tokens of a chunk."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.network, self.gather = network, P.Gather()

    def construct(self, x: Tensor, rows: Tensor) -> Tensor:
        """``[c, h], [r] → [r, v]``."""
        return self.network.logits(self.gather(x, rows, 0))


class Chunks:
    """Chunked-prefill graphs of one network.

    Args:
        network: the network whose weights the graphs share.
        caches: the prompt's KV cache, one per layer.
        length: cache length in tokens.
    """

    def __init__(self, network: GPT2, caches: Sequence[Cache], length: int) -> None:
        self._positions, self._entries = network.config.positions, network.config.vocab
        self._embed, self._head = Embed(network), Head(network)
        self._chunk = Chunk(network, caches, length)

    def take(self, ids: NDArray[np.int32], start: int) -> Tensor:
        """Process a chunk: ``[c] → [c, h]``."""
        positions = np.arange(start, start + CHUNK, dtype=np.int32)
        known = Tensor(np.minimum(positions, self._positions - 1))
        hidden: Tensor = self._chunk(self._embed(Tensor(ids), known), Tensor(positions))
        return hidden

    def logits(self, hidden: Tensor, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the logits of rows: ``[c, h], [r] → [r, entries]``."""
        logits: NDArray[np.float32] = self._head(hidden, Tensor(rows)).asnumpy()
        return logits[:, : self._entries]


class ChunkedPrefill:
    """Chunked prefill of one prompt at a time, for a decoder's row or for its logits alone.

    Args:
        network: the network whose weights it shares.
        adapted: networks with adapters, by adapter name; each prompt is processed with one of them.
    """

    @device.turn()
    def __init__(self, network: GPT2, adapted: Mapping[str, GPT2] | None = None) -> None:
        free_unused()
        self._limit = network.config.positions
        self._heads, self.length = network.heads, -(-self._limit // CHUNK) * CHUNK
        caches = new_caches(network, 1, self.length)
        self._parameters = parameters_of(caches)
        networks = {"": network, **(adapted or {})}
        self._chunks = {
            name: Chunks(other, caches, self.length) for name, other in networks.items()
        }
        self._gather, self._write = P.Gather(), P.ScatterUpdate()

    @device.turn()
    def take(self, ids: Sequence[int], start: int, adapter: str = "") -> Tensor:
        """Process up to ``CHUNK`` tokens from ``start``, after those cached; return ``[c, h]``."""
        padded = np.zeros(CHUNK, np.int32)
        padded[: len(ids)] = ids
        return self._chunks[adapter].take(padded, start)

    @device.turn()
    def logits(self, hidden: Tensor, row: int, adapter: str = "") -> NDArray[np.float32]:
        """Return next-token logits after one row of a chunk, ``[entries]``."""
        logits: NDArray[np.float32] = self._chunks[adapter].logits(
            hidden, np.array([row], np.int32)
        )[0]
        return logits

    @device.turn()
    def all_logits(self, hidden: Tensor, adapter: str = "") -> NDArray[np.float32]:
        """Return next-token logits after every row of a chunk, ``[c, entries]``."""
        return self._chunks[adapter].logits(hidden, np.arange(CHUNK, dtype=np.int32))

    @device.turn()
    def prompt(self, tokens: int) -> list[Tensor]:
        """Return keys and values of a prompt's ``tokens``, padded, for ``KVCacheDecoder.adopt``."""
        return self._read(0, min(-(-tokens // CHUNK) * CHUNK, self._limit))

    @device.turn()
    def keys_values(self, start: int) -> NDArray[np.float32]:
        """Return the keys and values of the chunk at ``start``, ``[2 layers, n c, d]``."""
        return np.stack([values.asnumpy() for values in self._read(start, CHUNK)])

    def _read(self, start: int, count: int) -> list[Tensor]:
        rows = Tensor(self._cache_rows(start, count))
        return [self._gather(parameter, rows, 0) for parameter in self._parameters]

    @device.turn()
    def restore(self, chunks: Sequence[NDArray[np.float32]]) -> None:
        """Write the first chunks of a prompt back to the KV cache, from ``keys_values``."""
        starts = range(0, len(chunks) * CHUNK, CHUNK)
        rows = Tensor(np.concatenate([self._cache_rows(start, CHUNK) for start in starts]))
        for i, parameter in enumerate(self._parameters):
            self._write(parameter, rows, Tensor(np.concatenate([chunk[i] for chunk in chunks])))

    @device.turn()
    def clear(self) -> None:
        """Zero the KV cache: a NaN left in it would reach later prompts through masks."""
        for parameter in self._parameters:
            parameter.set_data(Tensor(np.zeros(parameter.shape, np.float32)))

    def _cache_rows(self, start: int, count: int) -> NDArray[np.int32]:
        """Return the cache rows of ``count`` tokens from ``start``, ``[n count]``."""
        heads = np.arange(self._heads)[:, None] * self.length
        return (heads + np.arange(start, start + count)).reshape(-1).astype(np.int32)
