"""Tensors that are looked at on their way from one file to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import xxhash
from numpy.typing import NDArray

from gpt2dsl.errors import InputError, some
from gpt2dsl.weights.files.lazy_tensor import LazyTensor, all_finite

Moved = Callable[[int], object]
"""Is told the bytes that were read since it was told last."""


@attrs.frozen(eq=False)
class _Watched(LazyTensor):
    """A tensor of which each block is looked at on its way."""

    of: LazyTensor
    see: Callable[[NDArray[Any]], None]

    def rows(self, first: int, last: int) -> NDArray[Any]:
        found = self.of.rows(first, last)
        self.see(found)
        return found

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        for block in self.of.blocks(first, last):
            self.see(block)
            yield block


class StreamDigest:
    """Counts the bytes that pass, notes which tensors are not finite, and takes their digest."""

    def __init__(self, moved: Moved) -> None:
        self.moved = moved
        self.wrong: dict[str, None] = {}
        self._seen: dict[str, tuple[LazyTensor, xxhash.xxh3_128]] = {}

    def over(self, tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
        """Return the tensors, watched while each is read from its first row to its last, once."""
        return {name: self._one(name, tensor) for name, tensor in tensors.items()}

    def _one(self, name: str, tensor: LazyTensor) -> LazyTensor:
        digest = xxhash.xxh3_128()
        self._seen[name] = tensor, digest

        left = tensor.size

        def see(block: NDArray[Any]) -> None:
            nonlocal left
            if left <= 0:  # it is read again
                return
            left -= block.nbytes
            if not all_finite(block, tensor.kind):
                self.wrong[name] = None
            digest.update(np.ascontiguousarray(block).data)
            self.moved(block.nbytes)

        return _Watched(tensor.kind, tensor.shape, tensor, see)

    def refuse(self, source: object, dtype: str) -> None:
        """Refuse what was not finite, by now: nothing has its final name yet."""
        if self.wrong:
            large = f", or too large for {dtype}" if dtype else ""
            message = f"NaN or infinite{large}: {some(self.wrong)}"
            raise InputError("G2-306", source, message)

    def digest(self, names: Iterable[str]) -> str:
        """XXH3 (128 bits) of whole tensors, by which the same weights are known in any layout.

        Of each tensor in the order of the names: its name, element type, shape and its own XXH3.
        """
        whole = xxhash.xxh3_128()
        for name in sorted(names):
            tensor, digest = self._seen[name]
            whole.update(f"{name} {tensor.kind} {tensor.shape} {digest.hexdigest()}\n".encode())
        return whole.hexdigest()
