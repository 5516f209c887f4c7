"""Decoding with a cache of keys and values: a prefill graph, then a step graph for each token.

The cache is one Parameter for keys and one for values a layer, laid out as rows of one head's
width: row ``(row of the batch * heads + head) * length + position``. Rows are overwritten in
place. Letters in shapes are those of network.py, with s the length of the cache.
"""

from __future__ import annotations

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.model.network import GPT2, TABLE, bucket
from gpt2dsl.model.operators.head import MASKED


class _Cache(nn.Cell):
    """Keys and values of one layer."""

    def __init__(self, network: GPT2, layer: int, batch: int, length: int) -> None:
        super().__init__(auto_prefix=False)
        width = network.geometry.head_width
        self.shape = (batch * network.heads, length, width)
        rows = np.zeros((batch * network.heads * length, width), np.float32)
        self.keys = Parameter(Tensor(rows), name=f"cache.{layer}.keys", requires_grad=False)
        self.values = Parameter(Tensor(rows), name=f"cache.{layer}.values", requires_grad=False)
        self.write = P.ScatterUpdate()

    def construct(self, places: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write ``[b n, t, d]`` at rows ``[b n t]``; gives all of them, ``2 x [b n, s, d]``."""
        width = self.shape[2]
        keys = self.write(self.keys, places, k.reshape((-1, width)))
        values = self.write(self.values, places, v.reshape((-1, width)))
        return keys.reshape(self.shape), values.reshape(self.shape)


class _Decoding(nn.Cell):
    """What prefill and step share: the network's parts, and one cache a layer."""

    def __init__(self, network: GPT2, caches: list[_Cache], batch: int, length: int) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.caches = nn.CellList(caches, auto_prefix=False)
        self.table = network.by_name[TABLE]
        self.batch, self.length = batch, length
        self.gather = P.Gather()
        # the cache's first row of each row of the batch and head
        first = np.arange(batch * network.heads, dtype=np.int32) * length
        self.first = Tensor(first[:, None])  # [b n, 1]
        self.order = Tensor(np.arange(length, dtype=np.int32)[None])  # [1, s]
        self.tile_heads = Tensor(np.repeat(np.arange(batch, dtype=np.int32), network.heads))

    def logits(self, x: Tensor) -> Tensor:
        """``[b, h] → [b, v]``."""
        normal = self.network.norm(x, self.network.g, self.network.b)
        return self.network.logits_of(normal, self.table)


class Prefill(_Decoding):
    """Whole prompts into the cache."""

    def construct(self, ids: Tensor, last: Tensor) -> Tensor:
        """``[b, t] → [b, v]``: the logits after the token ``last`` ``[b]`` of each row.

        Rows are padded on the right. What padding writes lies past the row's last token, where
        the mask hides it until a step overwrites it.
        """
        batch, time = ids.shape
        positions = self.network.tile(self.order[:, :time], (batch, 1))  # [b, t]
        places = (self.first + self.order[:, :time]).reshape((-1,))  # [b n t]
        x = self.network.embedding(ids, positions)  # [b t, h]
        mask = self.network.causal(batch, time)
        for i, cache in enumerate(self.caches):
            block, weights = self.network.blocks[i], self.network.weights(i)
            q, k, v = block.attention.project(block.norm_1(x, weights), batch, weights, ())
            cache(places, k, v)
            x = x + block.attention.attend(q, k, v, mask, weights, ())
            x = x + block.mlp(block.norm_2(x, weights), weights, ())
        rows = ms.ops.arange(batch).astype(ms.int32) * time + last
        return self.logits(self.gather(x, rows, 0))


class Step(_Decoding):
    """One token for each row."""

    def construct(self, ids: Tensor, positions: Tensor) -> Tensor:
        """``[b], [b] → [b, v]``: the token's place in its row, which is written and looked at."""
        by_head = self.gather(positions, self.tile_heads, 0).reshape((-1, 1))  # [b n, 1]
        places = (self.first + by_head).reshape((-1,))  # [b n]
        mask = ((self.order > by_head).astype(ms.float32) * MASKED).expand_dims(1)  # [b n, 1, s]
        x = self.network.embedding(ids, positions)  # [b, h]
        for i, cache in enumerate(self.caches):
            block, weights = self.network.blocks[i], self.network.weights(i)
            q, k, v = block.attention.project(block.norm_1(x, weights), self.batch, weights, ())
            keys, values = cache(places, k, v)  # [b n, s, d]
            x = x + block.attention.attend(q, keys, values, mask, weights, ())
            x = x + block.mlp(block.norm_2(x, weights), weights, ())
        return self.logits(x)


class Decoder:
    """Decodes a batch of rows, each at its own position.

    Args:
        network: whose weights it shares.
        batch: rows.
        length: tokens that a row may come to hold, the prompt included.
    """

    def __init__(self, network: GPT2, batch: int, length: int) -> None:
        self._network = network
        self._length = min(bucket(length), network.geometry.positions)
        caches = [
            _Cache(network, layer, batch, self._length) for layer in range(network.geometry.layers)
        ]
        self._prefill = Prefill(network, caches, batch, self._length)
        self._step = Step(network, caches, batch, self._length)
        self._positions = np.zeros(batch, np.int32)

    def prefill(self, prompts: list[list[int]]) -> NDArray[np.float32]:
        """Take in the prompts, none of them empty; ``[b, vocab]`` of the token after each."""
        longest = max(map(len, prompts))
        ids = np.zeros((len(prompts), min(bucket(longest), self._length)), np.int32)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        self._positions = np.array([len(prompt) for prompt in prompts], np.int32)
        return self._of_vocab(self._prefill(Tensor(ids), Tensor(self._positions - 1)))

    def step(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Take in one token a row, ``[b]``; ``[b, vocab]`` of the token after it.

        A row that is full overwrites its last token: it must be done with.
        """
        positions = np.minimum(self._positions, self._length - 1)
        self._positions = positions + 1
        return self._of_vocab(self._step(Tensor(ids, ms.int32), Tensor(positions, ms.int32)))

    def _of_vocab(self, logits: Tensor) -> NDArray[np.float32]:
        found: NDArray[np.float32] = logits.asnumpy()[:, : self._network.geometry.vocab]
        return found
