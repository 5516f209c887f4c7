"""Decoding with a KV cache: a prefill graph, then a step graph for each token.

Letters in shapes are those of gpt2.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.backend.cached_cell import CachedCell
from gpt2dsl.backend.memory import free_unused
from gpt2dsl.model.gpt2 import GPT2, causal_mask
from gpt2dsl.model.kv_cache import Cache, cached_blocks, new_caches, parameters_of
from gpt2dsl.model.saved_activations import SavedActivations

SHORTEST_PROMPT, SHORTEST_CACHE = 32, 128
"""Lengths in tokens of the smallest graphs: shorter ones would cost as much and compile again."""

WASTE = 1.3
"""Largest ratio of padded to actual prompt length at which prompts are prefilled together."""


def prompt_length(tokens: int, limit: int) -> int:
    """Return the prefill length of a prompt: 32, 48, 64, 96, 128, ..., at most ``limit``."""
    length = SHORTEST_PROMPT
    while length < tokens:
        length += length // 2 if length & (length - 1) == 0 else length // 3
    return min(length, limit)


def cache_length(tokens: int, limit: int) -> int:
    """Return the cache length for ``tokens``: 128, 256, 512, ..., at most ``limit``."""
    length = SHORTEST_CACHE
    while length < tokens:
        length *= 2
    return min(length, limit)


class DecodingCell(CachedCell):
    """A graph over the whole network."""

    def __init__(self, network: GPT2, *constants: int) -> None:
        super().__init__(*network.signature, *constants, is_kept=network.tensor_group.size == 1)


class PrefillStep(DecodingCell):
    """Prefill graph: next-token logits, keys and values of whole prompts."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.network, self.gather = network, P.Gather()
        self.saved_activations = SavedActivations(auto_prefix=False)

    def construct(self, ids: Tensor, last: Tensor) -> tuple[Tensor, ...]:
        """``[b, t], [b] → [b, v], 2 layers x [b n t, d]``: logits, keys and values by layer.

        Rows are padded on the right; ``last`` is the index of each row's last token in ``[b t]``.
        Keys and values of padding lie past it and stay masked until a step overwrites them.
        """
        x, saved = self.network(ids)
        keys_values: tuple[Tensor, ...] = ()
        for saved_by_block in saved:
            k, v = self.saved_activations.keys_values(saved_by_block)
            keys_values = (*keys_values, k.reshape((-1, k.shape[-1])), v.reshape((-1, v.shape[-1])))
        return (self.network.logits(self.gather(x, last, 0)), *keys_values)


class Embed(DecodingCell):
    """Embedding graph of a decoding step.

    Why a separate graph: in a graph that writes to Parameters, MindSpore 2.10 copies every table
    that a Gather reads, which takes as long as all matrix products of the step.
    """

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.network = network

    def construct(self, ids: Tensor, positions: Tensor) -> Tensor:
        """``[b], [b] → [b, h]``."""
        return self.network.embed(ids, positions)


class DecodeStep(DecodingCell):
    """Decoding graph: one token for each row of a batch, at one cache length."""

    def __init__(self, network: GPT2, caches: Sequence[Cache], batch: int, length: int) -> None:
        super().__init__(network, batch, length)
        self.network, self.gather = network, P.Gather()
        self.blocks = cached_blocks(network, caches)
        # the first cache row of each batch row and head
        first = np.arange(batch * network.heads, dtype=np.int32) * length
        self.first = Tensor(first[:, None])  # [b n, 1]
        self.order = Tensor(np.arange(length, dtype=np.int32)[None])  # [1, s]
        self.tile_heads = Tensor(np.repeat(np.arange(batch, dtype=np.int32), network.heads))

    def construct(self, x: Tensor, positions: Tensor) -> Tensor:
        """Write each token's keys and values, then attend: ``[b, h], [b] → [b, v]``."""
        by_head = self.gather(positions, self.tile_heads, 0).reshape((-1, 1))  # [b n, 1]
        rows = (self.first + by_head).reshape((-1,))  # [b n]
        mask = causal_mask(by_head, self.order).expand_dims(1)  # [b n, 1, s]
        x, _ = self.network.run_blocks(self.blocks, x, mask, rows)
        return self.network.logits(x)


class DecodeSteps:
    """Decoding graphs of one network, one per cache length.

    Args:
        network: the network whose weights the graphs share.
        batch: number of rows.
        entries: number of logits to return per token; the vocabulary's size by default.
    """

    def __init__(self, network: GPT2, batch: int, entries: int | None = None) -> None:
        self._network, self._batch = network, batch
        self.entries = entries or network.config.vocab
        self._embed = Embed(network)
        self._of_length: dict[int, DecodeStep] = {}

    def logits(
        self,
        caches: Sequence[Cache],
        length: int,
        ids: NDArray[np.int32],
        positions: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """Decode one token per row at its position: ``[b], [b] → [b, entries]``."""
        position_ids = Tensor(positions, ms.int32)
        logits = self._step(caches, length)(
            self._embed(Tensor(ids, ms.int32), position_ids), position_ids
        )
        padded_logits: NDArray[np.float32] = logits.asnumpy()
        return padded_logits[:, : self.entries]

    def _step(self, caches: Sequence[Cache], length: int) -> DecodeStep:
        if length not in self._of_length:
            self._of_length[length] = DecodeStep(self._network, caches, self._batch, length)
        return self._of_length[length]


class KVCacheDecoder:
    """Decoder of a batch of rows, each at its own position, with a KV cache that grows.

    One graph is compiled per prompt length and per cache length; a finished row may be refilled
    while the others go on (continuous batching).

    Args:
        network: the network whose weights it shares.
        batch: number of rows.
        entries: number of logits to return per token; the vocabulary's size by default.
        adapted: networks with adapters, by adapter name; a step may run one of them for some rows.
            Their KV caches have the same shapes, so all share one set.
    """

    @device.turn()
    def __init__(
        self,
        network: GPT2,
        batch: int,
        entries: int | None = None,
        adapted: Mapping[str, GPT2] | None = None,
    ) -> None:
        free_unused()
        self._network, self._batch = network, batch
        self._limit = network.config.positions
        self._prefill = PrefillStep(network)
        self._steps = {"": DecodeSteps(network, batch, entries)}
        for name, other in (adapted or {}).items():
            self._steps[name] = DecodeSteps(other, batch)
        self._write, self._gather, self._assign = P.ScatterUpdate(), P.Gather(), P.Assign()
        self._caches: dict[int, list[Cache]] = {}
        self._length = 0
        self._positions = np.zeros(batch, np.int32)
        self._is_used = np.zeros(batch, bool)

    def reserve(self, tokens: int) -> None:
        """Drop all rows and select the KV cache length for rows of ``tokens``."""
        self._positions[:], self._is_used[:] = 0, False
        self._length = cache_length(tokens, self._limit)

    @device.turn()
    def prefill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Prefill rows with prompts; return next-token logits, ``[prompts, entries]``.

        No prompt is empty. They are computed together if there is one for every row of the batch
        and their lengths are similar; otherwise one by one, so that few graphs are compiled.
        """
        times = [prompt_length(len(prompt), self._limit) for prompt in prompts]
        if len(prompts) == self._batch and len(prompts) * max(times) <= WASTE * sum(times):
            return self._prefill_together(rows, prompts, max(times))
        requests = zip(rows, prompts, times, strict=True)
        return np.concatenate(
            [self._prefill_together([row], [prompt], time) for row, prompt, time in requests]
        )

    def _prefill_together(
        self, rows: Sequence[int], prompts: Sequence[Sequence[int]], time: int
    ) -> NDArray[np.float32]:
        """Prefill prompts together, padded to ``time`` tokens."""
        ids = np.zeros((len(prompts), time), np.int32)
        for padded_row, prompt in zip(ids, prompts, strict=True):
            padded_row[: len(prompt)] = prompt
        lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        last = lengths - 1 + np.arange(len(prompts), dtype=np.int32) * time
        logits, *keys_values = self._prefill(Tensor(ids), Tensor(last))
        self._grow(time)
        self._fill(rows, keys_values, time)
        filled = np.array(rows)
        self._positions[filled], self._is_used[filled] = lengths, True
        padded_logits: NDArray[np.float32] = logits.asnumpy()
        return padded_logits[:, : self._steps[""].entries]

    def _fill(self, rows: Sequence[int], keys_values: Sequence[Tensor], time: int) -> None:
        """Write keys and values of the rows' first tokens, layer by layer, each ``[b n t, d]``."""
        cache_rows = self._cache_rows(rows, np.arange(time))
        for parameter, values in zip(self._parameters, keys_values, strict=True):
            self._write(parameter, cache_rows, values)

    def _cache_rows(
        self, rows: Sequence[int], positions: NDArray[np.int64], length: int = 0
    ) -> Tensor:
        """Return the cache rows of token positions, ``[b n t]``.

        Caches are those of ``length``, or of the current length if it is 0.
        """
        heads = np.array(rows)[:, None] * self._network.heads + np.arange(self._network.heads)
        cache_rows = heads[..., None] * (length or self._length) + positions  # [b, n, t]
        return Tensor(cache_rows.reshape(-1).astype(np.int32))

    @device.turn()
    def adopt(self, row: int, keys_values: Sequence[Tensor], tokens: int) -> None:
        """Start a row from the keys and values of a prefilled prompt.

        Args:
            row: index of the row.
            keys_values: result of ``ChunkedPrefill.prompt``: layer by layer, each ``[n t, d]``.
            tokens: length of the prompt; positions past it are ignored.
        """
        time = keys_values[0].shape[0] // self._network.heads
        self._grow(time)
        self._fill([row], keys_values, time)
        self._positions[row], self._is_used[row] = tokens, True

    @device.turn()
    def clear(self, row: int) -> None:
        """Release a row and zero it: a NaN left in it would reach later texts through masks.

        Shorter caches that were outgrown are zeroed too.
        """
        self.release(row)
        for length in self._caches:
            self._erase(row, np.arange(length), length)

    def _erase(self, row: int, positions: NDArray[np.int64], length: int) -> None:
        """Zero positions of a row in the caches of a length."""
        width = self._network.config.head_width
        zeros = Tensor(np.zeros((self._network.heads * len(positions), width), np.float32))
        cache_rows = self._cache_rows([row], positions, length)
        for parameter in parameters_of(self._caches[length]):
            self._write(parameter, cache_rows, zeros)

    @property
    def lengths(self) -> list[int]:
        """Possible cache lengths in tokens, shortest first."""
        lengths = [cache_length(1, self._limit)]
        while lengths[-1] < self._limit:
            lengths.append(cache_length(lengths[-1] + 1, self._limit))
        return lengths

    @device.turn()
    def step(
        self,
        ids: NDArray[np.int32],
        rows: Sequence[int] | None = None,
        adapter: str = "",
    ) -> NDArray[np.float32]:
        """Decode one token per row, ``[b]``; return next-token logits, ``[b, entries]``.

        A full row overwrites its last token, so it must be finished.

        Args:
            ids: token ids; any valid id for rows that take no token.
            rows: rows that take a token; all by default. Logits of the others are meaningless.
            adapter: name of the adapter to step with; "" for the base network.
        """
        positions = np.minimum(self._positions, self._limit - 1)
        self._grow(int(positions.max()) + 1)
        caches = self._of_length(self._length)
        logits = self._steps[adapter].logits(caches, self._length, ids, positions)
        moves = self._is_used.copy()
        if rows is not None:
            moves[:] = False
            moves[list(rows)] = True
            self._forget(np.flatnonzero(self._is_used & ~moves), positions, logits)
        self._positions = np.where(moves, positions + 1, self._positions).astype(np.int32)
        return logits

    def _forget(
        self, rows: NDArray[np.int64], positions: NDArray[np.int32], logits: NDArray[np.float32]
    ) -> None:
        """Erase non-finite keys and values that a step wrote for rows that took no token.

        Finite ones are overwritten by the row's next step before they are read; but if there is no
        next step, a NaN would reach the next text of the row through masks.
        """
        for row in rows:
            if not np.isfinite(logits[row]).all():
                self._erase(int(row), positions[[row]].astype(np.int64), self._length)

    def release(self, row: int) -> None:
        """Mark a row as finished: it stays at position 0 and no longer makes the caches grow."""
        self._positions[row], self._is_used[row] = 0, False

    @device.turn()
    def reorder(self, source: NDArray[np.int64]) -> None:
        """Copy the state of row ``source[row]`` to each row."""
        self._positions, self._is_used = self._positions[source], self._is_used[source]
        size = self._network.heads * self._length
        cache_rows = source[:, None] * size + np.arange(size)  # [b, n s]
        rows = Tensor(cache_rows.reshape(-1).astype(np.int32))
        for parameter in self._parameters:
            self._assign(parameter, self._gather(parameter, rows, 0))

    @property
    def _parameters(self) -> list[Parameter]:
        """Keys and values of the current cache length, layer by layer."""
        return parameters_of(self._of_length(self._length))

    def _of_length(self, length: int) -> list[Cache]:
        if length not in self._caches:
            self._caches[length] = new_caches(self._network, self._batch, length)
        return self._caches[length]

    def _grow(self, tokens: int) -> None:
        """Move to longer caches if ``tokens`` do not fit."""
        if tokens <= self._length:
            return
        before, old = self._parameters if self._length else [], self._length
        self._length = cache_length(tokens, self._limit)
        cache_rows = self._cache_rows(range(self._batch), np.arange(old))
        for short, long in zip(before, self._parameters, strict=False):
            self._write(
                long, cache_rows, short
            )  # later positions are masked until they are written
