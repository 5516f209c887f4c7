"""Sharding of tensors over ranks, in the terms of MindSpore's strategy files.

Source: mindspore.Layout and node_strategy.proto (MindSpore 2.10): ``dev_matrix``, ``tensor_map``,
``opt_weight_shard_size``.
"""

from __future__ import annotations

import math

import attrs

Shape = tuple[int, ...]
Box = tuple[tuple[int, int], ...]
"""Slice of a tensor: start and stop index of each axis."""


@attrs.frozen
class TensorLayout:
    """Sharding of a tensor over the ranks of a pipeline stage.

    Attributes:
        devices: shape of the device matrix; the last axis varies fastest.
        axes: for each axis of the tensor, the axis of ``devices`` that shards it, counted from the
            last; -1 for none.
        shared: number of ranks that further shard the rows left to them by ``axes`` (ZeRO); 0 for
            none.
    """

    devices: Shape
    axes: tuple[int, ...]
    shared: int = 0

    @property
    def count(self) -> int:
        """Number of ranks."""
        return math.prod(self.devices)

    @property
    def parts(self) -> Shape:
        """Number of parts of each axis."""
        cut = [1 if axis < 0 else self.devices[-1 - axis] for axis in self.axes]
        return (cut[0] * max(1, self.shared), *cut[1:]) if cut else ()

    def whole(self, part: Shape) -> Shape:
        """Return the tensor's shape from that of a part."""
        return tuple(length * cut for length, cut in zip(part, self.parts, strict=True))

    def part(self, whole: Shape) -> Shape:
        """Return a part's shape from that of the tensor."""
        return tuple(length // cut for length, cut in zip(whole, self.parts, strict=True))

    def box(self, whole: Shape, rank: int) -> Box:
        """Return the slice that a rank holds.

        Args:
            whole: the tensor's shape.
            rank: rank within the stage.
        """
        place = self._place(rank)
        box = []
        for length, axis in zip(whole, self.axes, strict=True):
            cut, index = (1, 0) if axis < 0 else (self.devices[-1 - axis], place[-1 - axis])
            size = length // cut
            box.append((index * size, (index + 1) * size))
        if self.shared:
            first, last = box[0]
            size = (last - first) // self.shared
            first += self._left(place) % self.shared * size
            box[0] = (first, first + size)
        return tuple(box)

    def _place(self, rank: int) -> Shape:
        """Return a rank's coordinates in the device matrix."""
        coordinates = []
        for length in reversed(self.devices):
            rank, index = divmod(rank, length)
            coordinates.append(index)
        return tuple(reversed(coordinates))

    def _left(self, place: Shape) -> int:
        """Return a rank's number among those to which ``axes`` assign the same part."""
        number = 0
        for i, (length, index) in enumerate(zip(self.devices, place, strict=True)):
            if len(self.devices) - 1 - i not in self.axes:
                number = number * length + index
        return number
