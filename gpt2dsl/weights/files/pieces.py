"""Lazy views of tensors: assembled from parts, sliced, reshaped, padded."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import InputError
from gpt2dsl.layout.tensor_layout import Box
from gpt2dsl.weights.files.lazy_tensor import STORAGE, LazyTensor, extents, whole_box


@attrs.frozen(eq=False)
class Piece:
    """A part of a tensor.

    Attributes:
        box: bounds of the part along each axis.
        copies: the part as stored, once or more; all copies must be equal.
        names: names of the copies, for messages.
    """

    box: Box
    copies: tuple[LazyTensor, ...]
    names: tuple[str, ...]

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box of the part, and compare its copies.

        Raises:
            InputError: the copies differ (G2-304).
        """
        values = self.copies[0].read(box)
        for copy, name in zip(self.copies[1:], self.names[1:], strict=True):
            if not np.array_equal(_bytes(values), _bytes(copy.read(box))):
                message = f"it holds other values than {self.names[0]}, of which it is a copy"
                raise InputError("G2-304", name, message)
        return values


@attrs.frozen(eq=False)
class Assembled(LazyTensor):
    """A tensor assembled from parts in several files."""

    pieces: tuple[Piece, ...]

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows ``[first:last]``, read from the parts that overlap them."""
        if not self.shape:
            return self.pieces[0].read(()).reshape(1)
        return self.read(((first, last), *whole_box(self.shape[1:])))

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box, read from the parts that overlap it."""
        values = np.empty(extents(box), STORAGE[self.kind])
        for piece in self.pieces:
            common = tuple(
                (max(first, start), min(last, stop))
                for (first, last), (start, stop) in zip(box, piece.box, strict=True)
            )
            if all(first < last for first, last in common):
                place = tuple(slice(*edges) for edges in _shifted(common, box))
                values[place] = piece.read(_shifted(common, piece.box))
        return values


@attrs.frozen(eq=False)
class SlicedTensor(LazyTensor):
    """A part of a tensor."""

    of: LazyTensor
    box: Box

    @classmethod
    def at(cls, of: LazyTensor, box: Box) -> SlicedTensor:
        """Return the part of a tensor inside a box."""
        return cls(of.kind, tuple(last - first for first, last in box), of, box)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows ``[first:last]`` of the part."""
        if not self.box:
            return self.of.rows(first, last)
        start = self.box[0][0]
        return within(self.box, self.of.rows(start + first, start + last), start + first)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box of the part."""
        inner = zip(box, self.box, strict=True)
        return self.of.read(tuple((start + a, start + b) for (a, b), (start, _) in inner))

    def prepared(self) -> LazyTensor:
        """Return the part of a prepared tensor."""
        return attrs.evolve(self, of=self.of.prepared())


def within(box: Box, rows: NDArray[Any], first: int) -> NDArray[Any]:
    """Return the part of rows, from ``first`` on, that is inside a box; empty if none is."""
    (top, bottom), *others = box
    edges = ((max(top - first, 0), max(bottom - first, 0)), *others)
    return np.ascontiguousarray(rows[tuple(slice(*edge) for edge in edges)])


@attrs.frozen(eq=False)
class Reshaped(LazyTensor):
    """A tensor with the same elements in another shape."""

    of: LazyTensor

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows ``[first:last]``; read the whole if the number of rows differs."""
        if self.length == self.of.length:
            return self.of.rows(first, last).reshape(-1, *self.shape[1:])
        return self.of.rows(0, self.of.length).reshape(self.shape)[first:last]

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box; only it is read if the last axis is of several groups in the other shape.

        So c_attn is, whose ``[.., 3 n]`` is ``[.., 3, n]`` in the files of ranks.
        """
        axis = len(self.shape) - 1
        if axis < 0 or self.of.shape[:axis] != self.shape[:axis]:
            return super().read(box)
        *outer, (first, last) = box
        width = math.prod(self.of.shape[axis + 1 :])
        group = first // width if width else 0
        if len(self.of.shape) != axis + 2 or last > (group + 1) * width:
            return super().read(box)
        columns = (first - group * width, last - group * width)
        return self.of.read((*outer, (group, group + 1), columns)).reshape(extents(box))

    def prepared(self) -> LazyTensor:
        """Return the same view of a prepared tensor."""
        return attrs.evolve(self, of=self.of.prepared())

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the blocks of the underlying tensor, reshaped."""
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
        """Return rows ``[first:last]``."""
        return self.of.rows(first, last)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box."""
        return self.of.read(box)

    def prepared(self) -> LazyTensor:
        """Return the first rows of a prepared tensor."""
        return attrs.evolve(self, of=self.of.prepared())


@attrs.frozen(eq=False)
class Padded(LazyTensor):
    """A tensor padded with rows of zeros at the end."""

    of: LazyTensor

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows ``[first:last]``."""
        end = self.of.length
        rows = self.of.rows(min(first, end), min(last, end))
        zeros = np.zeros((last - first - len(rows), *self.shape[1:]), rows.dtype)
        return np.concatenate((rows, zeros)) if len(zeros) else rows

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box; padded rows are not read."""
        (first, last), *others = box
        end = self.of.length
        values = np.zeros(extents(box), STORAGE[self.kind])
        if first < end:
            stored = self.of.read(((first, min(last, end)), *others))
            values[: len(stored)] = stored
        return values

    def prepared(self) -> LazyTensor:
        """Return a prepared tensor, padded."""
        return attrs.evolve(self, of=self.of.prepared())

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the blocks of the underlying tensor, then the zeros."""
        stop = self.length if last is None else last
        end = min(stop, self.of.length)
        zeros = self.rows(max(first, end), stop)
        return itertools.chain(self.of.blocks(first, end), [zeros] if len(zeros) else [])


def resized(stored: LazyTensor, shape: tuple[int, ...]) -> LazyTensor:
    """Return a tensor in another shape: reshaped, or with rows of padding added or cut off."""
    if stored.shape == shape:
        return stored
    surplus = stored.elements - math.prod(shape)
    view = FirstRows if surplus > 0 else Padded if surplus else Reshaped
    return view(stored.kind, shape, stored)


def _shifted(box: Box, origin: Box) -> Box:
    """Return a box relative to the start of another."""
    return tuple((a - start, b - start) for (a, b), (start, _) in zip(box, origin, strict=True))


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).view(np.uint8)
