"""KV cache for decoding.

Each layer has one Parameter for keys and one for values, with rows of one head's width; a token is
at row ``(batch row * heads + head) * length + position``. Rows are overwritten in place. Letters in
shapes are those of gpt2.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import mindspore.ops.operations as P
from mindspore import Parameter, Tensor, nn

from gpt2dsl.backend.memory import zeros
from gpt2dsl.model.gpt2 import GPT2, Block, Tensors


class Cache(nn.Cell):
    """KV cache of one layer."""

    def __init__(self, network: GPT2, layer: int, batch: int, length: int) -> None:
        super().__init__(auto_prefix=False)
        width = network.config.head_width
        self.shape = (batch * network.heads, length, width)
        rows = (batch * network.heads * length, width)
        self.keys = zeros(f"cache.{layer}.keys", rows)
        self.values = zeros(f"cache.{layer}.values", rows)
        self.write = P.ScatterUpdate()

    def construct(self, rows: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write ``[b n, t, d]`` at rows ``[b n t]``; return the cache, ``2 x [b n, s, d]``."""
        width = self.shape[2]
        keys = self.write(self.keys, rows, k.reshape((-1, width)))
        values = self.write(self.values, rows, v.reshape((-1, width)))
        return keys.reshape(self.shape), values.reshape(self.shape)


class CachedBlock(nn.Cell):
    """A block that attends to all tokens of its KV cache."""

    def __init__(self, block: Block, cache: Cache) -> None:
        super().__init__(auto_prefix=False)
        self.block, self.cache = block, cache

    def construct(
        self, x: Tensor, mask: Tensor, weights: Tensors, rows: Tensor
    ) -> tuple[Tensor, Tensors]:
        """``[b t, h], [b n, t, s] → [b t, h]``; keys and values are written at rows ``[b n t]``."""
        return self.block(x, mask, weights, (), (), self.cache, rows)


def cached_blocks(network: GPT2, caches: Iterable[Cache]) -> nn.CellList:
    """Return the network's blocks, each with its KV cache."""
    pairs = zip(network.blocks, caches, strict=True)
    return nn.CellList([CachedBlock(*pair) for pair in pairs], auto_prefix=False)


def new_caches(network: GPT2, batch: int, length: int) -> list[Cache]:
    """Return a KV cache for each layer."""
    return [Cache(network, layer, batch, length) for layer in range(network.config.layers)]


def parameters_of(caches: Iterable[Cache]) -> list[Parameter]:
    """Return the keys and values, layer by layer, each ``[b n s, d]``."""
    return [parameter for cache in caches for parameter in (cache.keys, cache.values)]
