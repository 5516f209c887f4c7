"""Decoding with a cache of keys and values: a prefill graph, then a step graph for each token.

Letters in shapes are those of block.py, with s the length of the cache and v the padded vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.backend import device
from gpt2dsl.backend.cached_cell import CachedCell
from gpt2dsl.backend.memory import free_unused
from gpt2dsl.kernels.lm_head import MASKED
from gpt2dsl.layout.params import head_of
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.kv_cache import Cache, new_caches, parameters_of

SHORTEST_PROMPT, SHORTEST_CACHE = 32, 128
"""Tokens of the smallest graphs: few are compiled, and what is shorter costs no less."""

WASTE = 1.3
"""How much longer than their own prompts may be padded, for the sake of being computed together."""


def prompt_length(tokens: int, limit: int) -> int:
    """The length of the prefill graph for a prompt: 32, 48, 64, 96, 128, ..., at most ``limit``."""
    length = SHORTEST_PROMPT
    while length < tokens:
        length += length // 2 if length & (length - 1) == 0 else length // 3
    return min(length, limit)


def cache_length(tokens: int, limit: int) -> int:
    """Return the length of the cache for so many tokens: 128, 256, 512, ..., at most ``limit``."""
    length = SHORTEST_CACHE
    while length < tokens:
        length *= 2
    return min(length, limit)


class DecodingCell(CachedCell):
    """A graph over the whole network."""

    def __init__(self, network: GPT2, *constants: int) -> None:
        super().__init__(*network.signature, *constants, is_kept=network.shard.mp == 1)


class Prefill(DecodingCell):
    """Whole prompts: the logits after each, and the keys and values of their tokens."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.network = network
        self.head = network.by_name[head_of(network.geometry)]
        self.gather = P.Gather()

    def construct(self, ids: Tensor, last: Tensor) -> tuple[Tensor, ...]:
        """``[b, t], [b] → [b, v], 2 layers x [b n t, d]``: keys and values layer by layer.

        Rows are padded on the right; ``last`` is where the last token of each is among ``[b t]``.
        Keys and values of padding lie past it, where masks hide them until a step overwrites them.
        """
        batch, time = ids.shape
        network = self.network
        positions = network.tile(ms.ops.arange(time).astype(ms.int32), (batch,))  # [b t]
        x = network.embedding(ids, positions)  # [b t, h]
        mask = network.causal(batch, time)  # [b n, t, t]
        found: tuple[Tensor, ...] = ()
        for i, block in enumerate(network.blocks):
            weights = network.weights(i)
            normal, _ = block.norm_1(x, weights, ())
            q, k, v = block.attention.project(normal, batch, weights, ())
            found = (*found, k.reshape((-1, k.shape[-1])), v.reshape((-1, v.shape[-1])))
            x = block.finished(x + block.attention.attend(q, k, v, mask, weights), weights)
        normal = network.normal(self.gather(x, last, 0), network.g, network.b)  # [b, h]
        return (network.logits_of(normal, self.head), *found)


class Embed(DecodingCell):
    """The tokens of a step.

    Why a graph of its own: in a graph that writes to Parameters, MindSpore 2.10 copies every
    table that a Gather reads, which takes as long as all products of the step.
    """

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.embedding = network.embedding

    def construct(self, ids: Tensor, positions: Tensor) -> Tensor:
        """``[b], [b] → [b, h]``."""
        return self.embedding(ids, positions)


class DecodeStep(DecodingCell):
    """One token for each row of a batch, with caches of one length."""

    def __init__(self, network: GPT2, caches: Sequence[Cache], batch: int, length: int) -> None:
        super().__init__(network, batch, length)
        self.network, self.batch = network, batch
        self.caches = nn.CellList(caches, auto_prefix=False)
        self.head = network.by_name[head_of(network.geometry)]
        self.gather = P.Gather()
        # the cache's first row of each row of the batch and head
        first = np.arange(batch * network.heads, dtype=np.int32) * length
        self.first = Tensor(first[:, None])  # [b n, 1]
        self.order = Tensor(np.arange(length, dtype=np.int32)[None])  # [1, s]
        self.tile_heads = Tensor(np.repeat(np.arange(batch, dtype=np.int32), network.heads))

    def construct(self, x: Tensor, positions: Tensor) -> Tensor:
        """``[b, h], [b] → [b, v]``: each token's place in its row is written, then looked at."""
        network = self.network
        by_head = self.gather(positions, self.tile_heads, 0).reshape((-1, 1))  # [b n, 1]
        places = (self.first + by_head).reshape((-1,))  # [b n]
        mask = ((self.order > by_head).astype(ms.float32) * MASKED).expand_dims(1)  # [b n, 1, s]
        for i, cache in enumerate(self.caches):
            block, weights = network.blocks[i], network.weights(i)
            normal, _ = block.norm_1(x, weights, ())
            q, k, v = block.attention.project(normal, self.batch, weights, ())
            keys, values = cache(places, k, v)  # [b n, s, d]
            x = block.finished(x + block.attention.attend(q, keys, values, mask, weights), weights)
        normal = network.normal(x, network.g, network.b)
        return network.logits_of(normal, self.head)


class DecodeSteps:
    """Steps of one network, a graph for each length of the caches.

    Args:
        network: whose weights they share.
        batch: rows.
        entries: ids of which logits are wanted; the vocabulary's where it is not said.
    """

    def __init__(self, network: GPT2, batch: int, entries: int | None = None) -> None:
        self._network, self._batch = network, batch
        self.entries = entries or network.geometry.vocab
        self._embed = Embed(network)
        self._of_length: dict[int, DecodeStep] = {}

    def logits(
        self,
        caches: Sequence[Cache],
        length: int,
        ids: NDArray[np.int32],
        positions: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """``[b], [b] → [b, entries]``: each token is written at its position."""
        at = Tensor(positions, ms.int32)
        logits = self._step(caches, length)(self._embed(Tensor(ids, ms.int32), at), at)
        whole: NDArray[np.float32] = logits.asnumpy()
        return whole[:, : self.entries]

    def _step(self, caches: Sequence[Cache], length: int) -> DecodeStep:
        if length not in self._of_length:
            self._of_length[length] = DecodeStep(self._network, caches, self._batch, length)
        return self._of_length[length]


class Decoder:
    """Decodes the rows of a batch, each at its own position. Its caches grow with the longest row.

    Graphs are compiled once for each length of prompt and of cache; a row that is done with may be
    filled anew while others go on.

    Args:
        network: whose weights it shares.
        batch: rows.
        entries: ids of which logits are wanted; the vocabulary's where it is not said.
        adapted: the network with adapters, by name; steps of some rows may be one of theirs. Their
            caches have the shapes of the network's own, so that all share one set of them.
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
        self._limit = network.geometry.positions
        self._prefill = Prefill(network)
        self._steps = {"": DecodeSteps(network, batch, entries)}
        for name, other in (adapted or {}).items():
            self._steps[name] = DecodeSteps(other, batch)
        self._write, self._gather, self._assign = P.ScatterUpdate(), P.Gather(), P.Assign()
        self._caches: dict[int, list[Cache]] = {}
        self._length = 0
        self._positions = np.zeros(batch, np.int32)
        self._is_used = np.zeros(batch, bool)

    def reserve(self, tokens: int) -> None:
        """Start anew, with caches for rows of so many tokens; what rows held is gone."""
        self._positions[:], self._is_used[:] = 0, False
        self._length = cache_length(tokens, self._limit)

    @device.turn()
    def prefill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Take in prompts as these rows; ``[prompts, entries]`` of the token after each.

        None is empty. They are computed together if there is one for each row of the batch and
        their lengths are alike; one by one otherwise, so that few graphs are compiled.
        """
        times = [prompt_length(len(prompt), self._limit) for prompt in prompts]
        if len(prompts) == self._batch and len(prompts) * max(times) <= WASTE * sum(times):
            return self._taken(rows, prompts, max(times))
        each = zip(rows, prompts, times, strict=True)
        return np.concatenate([self._taken([row], [prompt], time) for row, prompt, time in each])

    def _taken(
        self, rows: Sequence[int], prompts: Sequence[Sequence[int]], time: int
    ) -> NDArray[np.float32]:
        """Prompts in one graph, padded to ``time``."""
        ids = np.zeros((len(prompts), time), np.int32)
        for padded_row, prompt in zip(ids, prompts, strict=True):
            padded_row[: len(prompt)] = prompt
        lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        last = lengths - 1 + np.arange(len(prompts), dtype=np.int32) * time
        logits, *found = self._prefill(Tensor(ids), Tensor(last))
        self._grow(time)
        self._fill(rows, found, time)
        taken = np.array(rows)
        self._positions[taken], self._is_used[taken] = lengths, True
        whole: NDArray[np.float32] = logits.asnumpy()
        return whole[:, : self._steps[""].entries]

    def _fill(self, rows: Sequence[int], held: Sequence[Tensor], time: int) -> None:
        """Write keys and values of rows' first tokens, layer by layer, each ``[b n t, d]``."""
        at = self._places(rows, np.arange(time))
        for parameter, values in zip(self._parameters, held, strict=True):
            self._write(parameter, at, values)

    def _places(self, rows: Sequence[int], positions: NDArray[np.int64], length: int = 0) -> Tensor:
        """Return where positions of rows are in caches of a length, else of the present one.

        They are ``[b n t]``.
        """
        heads = np.array(rows)[:, None] * self._network.heads + np.arange(self._network.heads)
        places = heads[..., None] * (length or self._length) + positions  # [b, n, t]
        return Tensor(places.reshape(-1).astype(np.int32))

    @device.turn()
    def adopt(self, row: int, held: Sequence[Tensor], tokens: int) -> None:
        """Begin a row with keys and values of a prompt.

        Args:
            row: it.
            held: of ``ChunkedPrefill.prompt``: layer by layer, each ``[n t, d]``.
            tokens: of the prompt; what lies past them does not count.
        """
        time = held[0].shape[0] // self._network.heads
        self._grow(time)
        self._fill([row], held, time)
        self._positions[row], self._is_used[row] = tokens, True

    @device.turn()
    def clear(self, row: int) -> None:
        """Release a row, and forget it: what is no number would reach others through masks.

        Shorter caches have it too, where they were left for longer ones.
        """
        self.release(row)
        for length in self._caches:
            self._erase(row, np.arange(length), length)

    def _erase(self, row: int, positions: NDArray[np.int64], length: int) -> None:
        """Write zeros at positions of a row in the caches of a length."""
        width = self._network.geometry.head_width
        zeros = Tensor(np.zeros((self._network.heads * len(positions), width), np.float32))
        places = self._places([row], positions, length)
        for parameter in parameters_of(self._caches[length]):
            self._write(parameter, places, zeros)

    @property
    def lengths(self) -> list[int]:
        """Lengths that its caches may come to have, the shortest first."""
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
        """Take in one token a row, ``[b]``; ``[b, entries]`` of the token after it.

        A row that is full overwrites its last token: it must be done with.

        Args:
            ids: the tokens; of rows that take none, any that the network has.
            rows: that take one; all where it is not said. Logits of others mean nothing.
            adapter: the name of the network that takes the step.
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
        """Undo what a step wrote for rows that took none, where it is no number.

        All else is overwritten by the next step of such a row before anything looks at it; but if
        it takes none any more, what is no number would reach the next text there through masks.
        """
        for row in rows:
            if not np.isfinite(logits[row]).all():
                self._erase(int(row), positions[[row]].astype(np.int64), self._length)

    def release(self, row: int) -> None:
        """A row that is done with: it stays at its first position, and no cache grows for it."""
        self._positions[row], self._is_used[row] = 0, False

    @device.turn()
    def reorder(self, source: NDArray[np.int64]) -> None:
        """Give each row what the row ``source[row]`` holds."""
        self._positions, self._is_used = self._positions[source], self._is_used[source]
        size = self._network.heads * self._length
        places = source[:, None] * size + np.arange(size)  # [b, n s]
        rows = Tensor(places.reshape(-1).astype(np.int32))
        for parameter in self._parameters:
            self._assign(parameter, self._gather(parameter, rows, 0))

    @property
    def _parameters(self) -> list[Parameter]:
        """Keys and values of the present length."""
        return parameters_of(self._of_length(self._length))

    def _of_length(self, length: int) -> list[Cache]:
        if length not in self._caches:
            self._caches[length] = new_caches(self._network, self._batch, length)
        return self._caches[length]

    def _grow(self, tokens: int) -> None:
        """Move to longer caches where so many tokens do not fit."""
        if tokens <= self._length:
            return
        before, old = self._parameters if self._length else [], self._length
        self._length = cache_length(tokens, self._limit)
        places = self._places(range(self._batch), np.arange(old))
        for short, long in zip(before, self._parameters, strict=False):
            self._write(long, places, short)  # what lies past them is masked until it is written
