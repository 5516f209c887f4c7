"""Tensors that are made of others without reading them: joined from parts, or of another shape."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import InputError
from gpt2dsl.layout.tensor_layout import Box
from gpt2dsl.weights.files.lazy_tensor import STORAGE, LazyTensor


@attrs.frozen(eq=False)
class Piece:
    """A part of a tensor.

    Attributes:
        box: which one.
        copies: where it lies; all of them must be equal.
        names: of the copies, for messages.
    """

    box: Box
    copies: tuple[LazyTensor, ...]
    names: tuple[str, ...]

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """``[first:last]`` of the part.

        Raises:
            InputError: the copies differ (G2-304).
        """
        found = self.copies[0].rows(first, last)
        for copy, name in zip(self.copies[1:], self.names[1:], strict=True):
            if not np.array_equal(_bytes(found), _bytes(copy.rows(first, last))):
                message = f"it holds other values than {self.names[0]}, of which it is a copy"
                raise InputError("G2-304", name, message)
        return found


@attrs.frozen(eq=False)
class Assembled(LazyTensor):
    """A tensor whose parts lie in several files."""

    pieces: tuple[Piece, ...]

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """``[first:last]``, of those parts that have some of it."""
        if not self.shape:
            return self.pieces[0].rows(first, last)
        found = np.empty((last - first, *self.shape[1:]), STORAGE[self.kind])
        for piece in self.pieces:
            (top, bottom), *others = piece.box
            a, b = max(first, top), min(last, bottom)
            if a < b:
                place = (slice(a - first, b - first), *(slice(*edges) for edges in others))
                found[place] = piece.rows(a - top, b - top)
        return found


@attrs.frozen(eq=False)
class Part(LazyTensor):
    """A part of a tensor."""

    of: LazyTensor
    box: Box

    @classmethod
    def at(cls, of: LazyTensor, box: Box) -> Part:
        """What a box holds of a tensor."""
        return cls(of.kind, tuple(last - first for first, last in box), of, box)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """``[first:last]`` of the part."""
        if not self.box:
            return self.of.rows(first, last)
        start = self.box[0][0]
        return within(self.box, self.of.rows(start + first, start + last), start + first)


def within(box: Box, rows: NDArray[Any], first: int) -> NDArray[Any]:
    """What a box holds of some rows of a tensor; none where they lie outside of it.

    Args:
        box: of the whole tensor.
        rows: of it.
        first: the number of the first of them.
    """
    (top, bottom), *others = box
    edges = ((max(top - first, 0), max(bottom - first, 0)), *others)
    return np.ascontiguousarray(rows[tuple(slice(*edge) for edge in edges)])


@attrs.frozen(eq=False)
class Reshaped(LazyTensor):
    """The same elements in another shape."""

    of: LazyTensor

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """``[first:last]``; from the whole where the rows are others."""
        if self.length == self.of.length:
            return self.of.rows(first, last).reshape(-1, *self.shape[1:])
        return self.of.rows(0, self.of.length).reshape(self.shape)[first:last]

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the other's blocks, which decides how much is read at once."""
        if self.length != self.of.length:
            yield self.rows(first, self.length if last is None else last)
            return
        for block in self.of.blocks(first, last):
            yield block.reshape(-1, *self.shape[1:])


@attrs.frozen(eq=False)
class FirstRows(LazyTensor):
    """The first rows of a tensor."""

    of: LazyTensor

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """``[first:last]``."""
        return self.of.rows(first, last)


@attrs.frozen(eq=False)
class Padded(LazyTensor):
    """A tensor with rows of zeros after its own."""

    of: LazyTensor

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """``[first:last]``."""
        end = self.of.length
        own = self.of.rows(min(first, end), min(last, end))
        zeros = np.zeros((last - first - len(own), *self.shape[1:]), own.dtype)
        return np.concatenate((own, zeros)) if len(zeros) else own

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the other's blocks, and the zeros."""
        stop = self.length if last is None else last
        end = min(stop, self.of.length)
        rest = self.rows(max(first, end), stop)
        return itertools.chain(self.of.blocks(first, end), [rest] if len(rest) else [])


def reshaped(stored: LazyTensor, shape: tuple[int, ...]) -> LazyTensor:
    """Return a tensor in another shape, itself where it has it already."""
    return stored if stored.shape == shape else Reshaped(stored.kind, shape, stored)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).view(np.uint8)
