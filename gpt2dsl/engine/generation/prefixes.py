"""Keys and values of prompts that were taken in, for those that begin alike (prefix caching)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.model.chunk import CHUNK

Block = NDArray[np.float32]
Key = tuple[str, bytes]


class PrefixCache:
    """Blocks of tokens, each under all tokens up to its end; the least recently used go first.

    Each adapter's are its own: no other network has the same keys and values.

    Args:
        limit: bytes that they may take.

    Attributes:
        bytes: that they take.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self.bytes = limit, 0
        self._blocks: OrderedDict[Key, Block] = OrderedDict()

    def find(self, ids: Sequence[int], adapter: str = "") -> list[Block]:
        """Return the blocks that a prompt begins with, as far as there are any."""
        keys: list[Key] = []
        for end in range(CHUNK, len(ids) + 1, CHUNK):
            key = _key(ids[:end], adapter)
            if key not in self._blocks:
                break
            keys.append(key)
        for key in reversed(keys):  # without its beginning a block is of no use: that goes last
            self._blocks.move_to_end(key)
        return [self._blocks[key] for key in keys]

    def knows(self, ids: Sequence[int], adapter: str = "") -> bool:
        """Return whether it has the block that ends with these tokens of a prompt."""
        return _key(ids, adapter) in self._blocks

    def keep(self, ids: Sequence[int], block: Block, adapter: str = "") -> None:
        """Keep the block that ends with these tokens of a prompt, where there is room for it."""
        if block.nbytes > self._limit:
            return
        replaced = self._blocks.pop(key := _key(ids, adapter), None)
        self.bytes += block.nbytes - (0 if replaced is None else replaced.nbytes)
        self._blocks[key] = block
        while self.bytes > self._limit:
            _, oldest = self._blocks.popitem(last=False)
            self.bytes -= oldest.nbytes


def _key(ids: Sequence[int], adapter: str) -> Key:
    """Return the adapter and the tokens themselves: no two prompts have the same."""
    return adapter, np.array(ids, np.int32).tobytes()
