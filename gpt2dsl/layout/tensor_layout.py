"""Which part of a tensor each rank holds, in the words of MindSpore's strategy files.

Source: mindspore.Layout and node_strategy.proto (MindSpore 2.10): ``dev_matrix``, ``tensor_map``,
``opt_weight_shard_size``.
"""

from __future__ import annotations

import math

import attrs

Shape = tuple[int, ...]
Box = tuple[tuple[int, int], ...]
"""A part of a tensor: of each axis the first index, and the one past the last."""


@attrs.frozen
class TensorLayout:
    """How a tensor is cut over the ranks of a pipeline stage.

    Attributes:
        devices: the shape of the array that these ranks make, the last axis the fastest.
        axes: for each axis of the tensor, the axis of ``devices`` that splits it, counted from the
            last one; -1 where none does.
        shared: how many ranks take equal rows each of what is left to them together (ZeRO); 0
            where none do.
    """

    devices: Shape
    axes: tuple[int, ...]
    shared: int = 0

    @property
    def count(self) -> int:
        """How many ranks there are."""
        return math.prod(self.devices)

    @property
    def parts(self) -> Shape:
        """Into how many parts each axis is cut."""
        cut = [1 if axis < 0 else self.devices[-1 - axis] for axis in self.axes]
        return (cut[0] * max(1, self.shared), *cut[1:]) if cut else ()

    def whole(self, part: Shape) -> Shape:
        """Return the shape of the tensor, from that of a part."""
        return tuple(length * cut for length, cut in zip(part, self.parts, strict=True))

    def part(self, whole: Shape) -> Shape:
        """Return the shape of a part, from that of the tensor."""
        return tuple(length // cut for length, cut in zip(whole, self.parts, strict=True))

    def box(self, whole: Shape, rank: int) -> Box:
        """What a rank holds.

        Args:
            whole: the shape of the tensor.
            rank: within the stage.
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
        """Return where a rank stands in the array."""
        found = []
        for length in reversed(self.devices):
            rank, index = divmod(rank, length)
            found.append(index)
        return tuple(reversed(found))

    def _left(self, place: Shape) -> int:
        """Return its number among the ranks to which the axes leave the same part."""
        number = 0
        for i, (length, index) in enumerate(zip(self.devices, place, strict=True)):
            if len(self.devices) - 1 - i not in self.axes:
                number = number * length + index
        return number
