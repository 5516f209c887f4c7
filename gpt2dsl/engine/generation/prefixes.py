"""Prefix caching: keys and values of prompts, reused by prompts with the same prefix."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.model.chunk import CHUNK

Block = NDArray[np.float32]
Key = tuple[str, bytes]


class PrefixCache:
    """An LRU cache of KV blocks, each keyed by all tokens up to its end.

    Adapters have separate entries: no two networks compute the same keys and values.

    Args:
        limit: maximum size in bytes.

    Attributes:
        bytes: current size in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self.bytes = limit, 0
        self._blocks: OrderedDict[Key, Block] = OrderedDict()

    def find(self, ids: Sequence[int], adapter: str = "") -> list[Block]:
        """Return the cached blocks of a prompt's longest known prefix."""
        keys: list[Key] = []
        for end in range(CHUNK, len(ids) + 1, CHUNK):
            key = _key(ids[:end], adapter)
            if key not in self._blocks:
                break
            keys.append(key)
        for key in reversed(keys):  # a block is useless without its prefix, which is evicted last
            self._blocks.move_to_end(key)
        return [self._blocks[key] for key in keys]

    def knows(self, ids: Sequence[int], adapter: str = "") -> bool:
        """Return whether the block that ends with these tokens of a prompt is cached."""
        return _key(ids, adapter) in self._blocks

    def keep(self, ids: Sequence[int], block: Block, adapter: str = "") -> None:
        """Cache the block that ends with these tokens of a prompt, if it fits."""
        if block.nbytes > self._limit:
            return
        replaced = self._blocks.pop(key := _key(ids, adapter), None)
        self.bytes += block.nbytes - (0 if replaced is None else replaced.nbytes)
        self._blocks[key] = block
        while self.bytes > self._limit:
            _, oldest = self._blocks.popitem(last=False)
            self.bytes -= oldest.nbytes


def _key(ids: Sequence[int], adapter: str) -> Key:
    """Return the adapter and the tokens themselves, which identify a prefix without collisions."""
    return adapter, np.array(ids, np.int32).tobytes()
