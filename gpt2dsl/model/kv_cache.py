"""KV cache for decoding.

Each layer has one Parameter for keys and one for values, with rows of one head's width; a token is
at row ``(batch row * heads + head) * length + position``. Rows are overwritten in place. Letters in
shapes are those of decoding.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import mindspore.ops.operations as P
from mindspore import Parameter, Tensor, nn

from gpt2dsl.backend.memory import zeros
from gpt2dsl.model.gpt2 import GPT2


class Cache(nn.Cell):
    """KV cache of one layer."""

    def __init__(self, network: GPT2, layer: int, batch: int, length: int) -> None:
        super().__init__(auto_prefix=False)
        width = network.geometry.head_width
        self.shape = (batch * network.heads, length, width)
        rows = (batch * network.heads * length, width)
        self.keys = zeros(f"cache.{layer}.keys", rows)
        self.values = zeros(f"cache.{layer}.values", rows)
        self.write = P.ScatterUpdate()

    def construct(self, places: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write ``[b n, 1, d]`` at rows ``[b n]``; return the whole cache, ``2 x [b n, s, d]``."""
        width = self.shape[2]
        keys = self.write(self.keys, places, k.reshape((-1, width)))
        values = self.write(self.values, places, v.reshape((-1, width)))
        return keys.reshape(self.shape), values.reshape(self.shape)


def new_caches(network: GPT2, batch: int, length: int) -> list[Cache]:
    """Return a KV cache for each layer."""
    return [Cache(network, layer, batch, length) for layer in range(network.geometry.layers)]


def parameters_of(caches: Iterable[Cache]) -> list[Parameter]:
    """Return the keys and values, layer by layer, each ``[b n s, d]``."""
    return [parameter for cache in caches for parameter in (cache.keys, cache.values)]
