"""Checks and digests of tensors while they are streamed from one file to another."""

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
"""Callback that receives the number of bytes read since its last call."""


@attrs.frozen(eq=False)
class _ObservedTensor(LazyTensor):
    """A tensor that passes each block to an observer."""

    of: LazyTensor
    observe: Callable[[NDArray[Any]], None]

    def rows(self, first: int, last: int) -> NDArray[Any]:
        block = self.of.rows(first, last)
        self.observe(block)
        return block

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        for block in self.of.blocks(first, last):
            self.observe(block)
            yield block


class StreamDigest:
    """Byte count, check for finite values and digest of streamed tensors."""

    def __init__(self, moved: Moved) -> None:
        self.moved = moved
        self.nonfinite: dict[str, None] = {}
        self._seen: dict[str, tuple[LazyTensor, xxhash.xxh3_128]] = {}

    def over(self, tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
        """Return tensors that are observed while each is read once, in row order."""
        return {name: self._observed(name, tensor) for name, tensor in tensors.items()}

    def _observed(self, name: str, tensor: LazyTensor) -> LazyTensor:
        digest = xxhash.xxh3_128()
        self._seen[name] = tensor, digest

        left = tensor.size

        def observe(block: NDArray[Any]) -> None:
            nonlocal left
            if left <= 0:  # read a second time
                return
            left -= block.nbytes
            if not all_finite(block, tensor.kind):
                self.nonfinite[name] = None
            digest.update(np.ascontiguousarray(block).data)
            self.moved(block.nbytes)

        return _ObservedTensor(tensor.kind, tensor.shape, tensor, observe)

    def refuse(self, source: object, dtype: str) -> None:
        """Raise an error for tensors that were not finite; no file has its final name yet.

        Raises:
            InputError: it lists the tensors (G2-306).
        """
        if self.nonfinite:
            large = f", or too large for {dtype}" if dtype else ""
            message = f"NaN or infinite{large}: {some(self.nonfinite)}"
            raise InputError("G2-306", source, message)

    def digest(self, names: Iterable[str]) -> str:
        """Return the XXH3 (128 bits) of whole tensors, which is the same in any layout.

        It covers each tensor's name, element type, shape and own XXH3, sorted by name.
        """
        total = xxhash.xxh3_128()
        for name in sorted(names):
            tensor, digest = self._seen[name]
            total.update(f"{name} {tensor.kind} {tensor.shape} {digest.hexdigest()}\n".encode())
        return total.hexdigest()
