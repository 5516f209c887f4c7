"""Values of lazy tensors for a network, as float32: a slice reads only what it covers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import InputError, some
from gpt2dsl.weights.files.lazy_tensor import (
    BLOCK,
    Array,
    ArrayTensor,
    LazyTensor,
    all_finite,
    extents,
    to_float32,
)


class Values(Mapping[str, "TensorValues"]):
    """Tensors by name, of which nothing is read until they are sliced, and nothing is kept.

    Args:
        tensors: the tensors.
        path: the file to name if a value that is read is not finite; None for optimizer state,
            which is not checked.
    """

    def __init__(self, tensors: Mapping[str, LazyTensor], path: Path | None = None) -> None:
        self._tensors, self._path = tensors, path

    def __getitem__(self, name: str) -> TensorValues:
        return TensorValues(self._tensors[name], self)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def replaced(self, tensors: Mapping[str, LazyTensor]) -> Values:
        """Return the same values, with those of other tensors in place of some."""
        return Values({**self._tensors, **tensors}, self._path)

    def finite(self, raw: NDArray[Any], kind: str) -> NDArray[Any]:
        """Return values of a stored type; if one is not finite, name all tensors of which one is.

        Raises:
            InputError: a value is NaN or infinite (G2-306).
        """
        if self._path and not all_finite(raw, kind):
            wrong = [name for name, tensor in self._tensors.items() if not _is_finite(tensor)]
            raise InputError("G2-306", self._path, f"NaN or infinite: {some(wrong)}")
        return raw


class TensorValues:
    """One tensor of ``Values``; if it is computed as a whole, then once."""

    def __init__(self, tensor: LazyTensor, owner: Values) -> None:
        self.shape = tensor.shape
        self._unprepared, self._owner = tensor, owner

    @cached_property
    def _tensor(self) -> LazyTensor:
        return self._unprepared.prepared()

    def __getitem__(self, index: tuple[slice, ...]) -> Array:
        """Read a slice, a block of rows at a time; steps must be 1."""
        index = (*index, *(slice(None) for _ in self.shape[len(index) :]))
        edges = (axis.indices(length) for axis, length in zip(index, self.shape, strict=True))
        box = tuple((first, max(first, last)) for first, last, _ in edges)
        tensor, finite = self._tensor, self._owner.finite
        if isinstance(tensor, ArrayTensor) and tensor.kind == "F32":
            return finite(tensor.read(box), tensor.kind)
        values = np.empty(extents(box), np.float32)
        (start, stop), *others = box
        step = max(1, BLOCK * len(values) // max(1, values.nbytes))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            raw = finite(tensor.read(((first, last), *others)), tensor.kind)
            values[first - start : last - start] = to_float32(raw, tensor.kind)
        return values


def _is_finite(tensor: LazyTensor) -> bool:
    return all(all_finite(block, tensor.kind) for block in tensor.blocks())
