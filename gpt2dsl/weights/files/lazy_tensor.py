"""Lazy tensors, read from file a box or a block of rows at a time, in the stored element type."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.errors import FileError, InputError
from gpt2dsl.layout.tensor_layout import Box

Array = NDArray[np.float32]

STORAGE = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
"""Element type, as safetensors names it → NumPy dtype; bfloat16 as its raw 16 bits."""

NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
"""Element type → its name in recipes and in config.json."""

BLOCK = 2**19
"""Bytes per read: small enough to stay in the processor's cache until they are written.
Files are read rather than mapped, as mapped pages would count as resident memory."""


@attrs.frozen(eq=False)
class LazyTensor(ABC):
    """A tensor that is read on demand.

    Attributes:
        kind: element type as safetensors names it: F32, F16, BF16, F64, or an unsupported one.
        shape: its shape.
    """

    kind: str
    shape: tuple[int, ...]

    @abstractmethod
    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return ``[first:last]`` along the first axis, in the stored type."""

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield rows ``[first:last]`` in blocks of about ``BLOCK`` bytes."""
        end = self.length if last is None else last
        step = max(1, BLOCK * self.length // max(1, self.size))
        for start in range(first, end, step):
            yield self.rows(start, min(start + step, end))

    def read(self, box: Box) -> NDArray[Any]:
        """Return the values inside a box, in the stored type.

        Only the box is read where the tensor is in files; at most a block more is in memory.
        """
        (first, last), *others = box or ((0, 1),)
        if all(edges == (0, n) for edges, n in zip(others, self.shape[1:], strict=True)):
            return self.rows(first, last).reshape(extents(box))
        values = np.empty(extents(box), STORAGE[self.kind])
        inner = (slice(None), *(slice(*edges) for edges in others))
        done = 0
        for block in self.blocks(first, last):
            values[done : done + len(block)] = block[inner]
            done += len(block)
        return values

    def prepared(self) -> LazyTensor:
        """Return an equal tensor, of which several boxes cost no more than one."""
        return self

    def load(self) -> Array:
        """Return all values, as float32."""
        return to_float32(self.rows(0, self.length), self.kind).reshape(self.shape)

    @property
    def length(self) -> int:
        """Number of rows; 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    def is_at(self, other: LazyTensor) -> bool:
        """Return whether both tensors are known to be the same bytes, without reading them."""
        return self is other

    @property
    def readable(self) -> bool:
        """Support of the element type, one of ``STORAGE``."""
        return self.kind in STORAGE

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.elements * (np.dtype(STORAGE[self.kind]).itemsize if self.readable else 1)


@attrs.frozen(eq=False)
class FileTensor(LazyTensor):
    """A tensor stored in a file, row-major, in pieces of so many bytes from an offset."""

    path: Path
    pieces: tuple[tuple[int, int], ...]

    @classmethod
    def at(cls, kind: str, shape: tuple[int, ...], path: Path, offset: int) -> FileTensor:
        """Return a tensor stored in one piece."""
        empty = cls(kind, shape, path, ())
        return attrs.evolve(empty, pieces=((offset, empty.size),))

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Read rows ``[first:last]`` from the file."""
        return self.read(((first, last), *whole_box(self.shape[1:])))

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box from the file, and nothing else."""
        values = np.empty(extents(box), STORAGE[self.kind])
        with self._opened() as file:
            for start, run in self._runs(box, values):
                self._fill(file, start * values.itemsize, run.view(np.uint8).data)
        return values

    def _runs(self, box: Box, values: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the runs of contiguous elements in a box: the first one's index, and its place."""
        shape = self.shape or (1,)
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        cut = [axis for axis, n in enumerate(shape) if axis < len(box) and box[axis] != (0, n)]
        inner = cut[-1] if cut else 0
        outer = itertools.product(*(range(*edges) for edges in box[:inner]))
        start = box[inner][0] * strides[inner] if box else 0
        if not values.size:
            return
        lines = values.reshape(math.prod(values.shape[:inner]), -1)
        for line, index in zip(lines, outer, strict=True):
            yield sum(map(math.prod, zip(index, strides, strict=False)), start), line

    def _fill(self, file: FileIO, start: int, view: memoryview) -> None:
        """Fill a view with the tensor's bytes from ``start`` on."""
        for offset, length in self.pieces:
            if view and start < length:
                part = view[: length - start]
                _fill(file, offset + start, part)
                view = view[len(part) :]
            start = max(0, start - length)

    @contextmanager
    def _opened(self) -> Iterator[FileIO]:
        """Yield the file open for reading; raise its errors as ours."""
        try:
            with self.path.open("rb", buffering=0) as file:
                yield file
        except OSError as error:
            raise FileError.unreadable(self.path, error) from error
        except EOFError:
            raise InputError("G2-304", self.path, "it ends before its last tensor") from None

    def is_at(self, other: LazyTensor) -> bool:
        """Return whether both tensors are the same bytes of the same file."""
        return isinstance(other, FileTensor) and (self.path, self.pieces) == (
            other.path,
            other.pieces,
        )


def _fill(file: FileIO, offset: int, view: memoryview) -> None:
    file.seek(offset)
    while view:  # One read returns at most 2 GiB.
        count = file.readinto(view)
        if not count:
            raise EOFError
        view = view[count:]


@attrs.frozen(eq=False)
class ArrayTensor(LazyTensor):
    """A tensor in memory."""

    array: NDArray[Any] = attrs.field(repr=False)

    @classmethod
    def of(cls, array: NDArray[Any]) -> ArrayTensor:
        """Return an array as a float32 tensor."""
        return cls("F32", array.shape, array)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows ``[first:last]``, contiguous."""
        rows = self.array[first:last] if self.shape else self.array.reshape(1)
        return np.ascontiguousarray(rows, STORAGE[self.kind])

    def read(self, box: Box) -> NDArray[Any]:
        """Return a view of a box."""
        view = self.array[tuple(slice(*edges) for edges in box)]
        return view.astype(STORAGE[self.kind], copy=False)


@attrs.frozen(eq=False)
class Converted(LazyTensor):
    """A tensor converted to another element type."""

    of: LazyTensor

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows ``[first:last]``, rounded to nearest; overflow becomes infinite."""
        return from_float32(to_float32(self.of.rows(first, last), self.of.kind), self.kind)

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box, converted as ``rows``."""
        return from_float32(to_float32(self.of.read(box), self.of.kind), self.kind)

    def prepared(self) -> LazyTensor:
        """Return the conversion of a prepared tensor."""
        return Converted(self.kind, self.shape, self.of.prepared())


@attrs.frozen(eq=False)
class Whole(LazyTensor):
    """A tensor computed from others, always as a whole.

    It is a single block, as reading a part costs as much as the whole.
    """

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the single block."""
        yield self.make()[first:last]

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows ``[first:last]`` of the whole."""
        return self.make()[first:last]

    def read(self, box: Box) -> NDArray[Any]:
        """Return a box of the whole."""
        return self.make()[tuple(slice(*edges) for edges in box)]

    def prepared(self) -> LazyTensor:
        """Return the whole in memory."""
        return ArrayTensor(self.kind, self.shape, self.make())

    @abstractmethod
    def make(self) -> NDArray[Any]:
        """Return the whole tensor, in the stored type."""


class Arrays(Mapping[str, Array]):
    """Tensors by name as float32; each access reads one, and nothing is cached."""

    def __init__(self, stored: Mapping[str, LazyTensor]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> Array:
        return self._stored[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def whole_box(shape: Sequence[int]) -> Box:
    """Return the box of a whole tensor."""
    return tuple((0, length) for length in shape)


def extents(box: Box) -> tuple[int, ...]:
    """Return the shape of a box."""
    return tuple(last - first for first, last in box)


def converted(stored: LazyTensor, kind: str) -> LazyTensor:
    """Return a tensor converted to an element type, itself if it already has it."""
    return stored if stored.kind == kind else Converted(kind, stored.shape, stored)


def to_float32(raw: NDArray[Any], kind: str) -> Array:
    """Return values of a stored type as float32."""
    if kind == "BF16":
        # bfloat16 is the upper half of a float32.
        widened: Array = (raw.astype(np.uint32) << 16).view(np.float32)
        return widened
    with np.errstate(over="ignore"):  # A float64 that overflows becomes inf, which readers reject.
        values: Array = raw.astype(np.float32, copy=False)
    return values


def from_float32(values: Array, kind: str) -> NDArray[Any]:
    """Return float32 values in a stored type, rounded to nearest, ties to even."""
    if kind == "BF16":
        bits = values.view(np.uint32)
        # NaN and inf are truncated: rounding could carry into the exponent or the sign.
        carried = np.where(np.isfinite(values), 0x7FFF + ((bits >> 16) & 1), 0)
        return ((bits + carried) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        return values.astype(STORAGE[kind], copy=False)


def all_finite(raw: NDArray[Any], kind: str) -> bool:
    """Return whether no value of a stored type is NaN or infinite."""
    if kind == "BF16":
        return not bool(((raw & 0x7F80) == 0x7F80).any())
    if kind == "F64":  # Used as float32, in which it may overflow.
        raw = to_float32(raw, kind)
    # A sum is several times faster than a test of each value, and not finite if one is not.
    with np.errstate(over="ignore", invalid="ignore"):
        if kind != "F16" and np.isfinite(raw.sum()):
            return True
    return bool(np.isfinite(raw).all())
