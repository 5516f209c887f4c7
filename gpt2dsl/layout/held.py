"""What a rank holds: its stage's tensors, each as the part that tensor parallelism leaves it.

A plan's layout, memory and traffic all come from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from gpt2dsl.layout.adapters import Adapted
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.layout.split import Split, has_equal_rows, splits
from gpt2dsl.layout.stages import stage_of, stage_tensors
from gpt2dsl.layout.tensor_layout import Shape
from gpt2dsl.layout.tensors import SCORE, padded_shape, tensors


@attrs.frozen(kw_only=True)
class Held:
    """A parameter of the network, and a rank's part of it.

    Attributes:
        name: as in ``layout.tensors`` and ``layout.adapters``.
        shape: of the whole, as the network has it.
        split: how it is cut over mp.
        part: the shape on a rank.
        layer: the block, -1 before them, ``Geometry.layers`` after them.
        is_adapter: whether it is a factor of LoRA.
        is_trained: whether training changes it.
    """

    name: str
    shape: Shape
    split: Split
    part: Shape
    layer: int
    is_adapter: bool
    is_trained: bool

    @property
    def size(self) -> int:
        """Elements on a rank."""
        return math.prod(self.part)

    def is_sharded(self, dp: int) -> bool:
        """Whether ZeRO-1 can share its optimizer state out: by rows, of which dp takes equal parts.

        Rajbhandari et al. 2020, ZeRO.
        """
        return has_equal_rows(self.part, dp)

    def state(self, dp: int) -> Shape:
        """The shape of its optimizer state on a rank, over dp copies that share it."""
        return (self.part[0] // dp, *self.part[1:]) if self.is_sharded(dp) else self.part


def held(geometry: Geometry, adapters: Sequence[Adapted] = (), mp: int = 1) -> list[Held]:
    """Every parameter, whatever its stage."""
    cuts = splits(geometry, adapters)

    def one(name: str, shape: Shape, layer: int, *, is_adapter: bool, is_trained: bool) -> Held:
        return Held(
            name=name,
            shape=shape,
            split=cuts[name],
            part=cuts[name].shape(shape, mp),
            layer=layer,
            is_adapter=is_adapter,
            is_trained=is_trained,
        )

    found = [
        one(
            tensor.name,
            padded_shape(tensor, geometry),
            tensor.layer,
            is_adapter=False,
            is_trained=not adapters or tensor.name == SCORE,
        )
        for tensor in tensors(geometry)
    ]
    return found + [
        one(name, shape, adapter.layer, is_adapter=True, is_trained=True)
        for adapter in adapters
        for name, shape in adapter.shapes.items()
    ]


def on_stages(geometry: Geometry, all_held: Sequence[Held], pp: int) -> list[list[Held]]:
    """The parameters of each stage; the word table is on two, as ``stage_tensors`` has it."""
    names = [{tensor.name for tensor in stage_tensors(geometry, stage, pp)} for stage in range(pp)]
    return [
        [
            one
            for one in all_held
            if one.name in names[stage]
            or (one.is_adapter and stage_of(one.layer, geometry.layers, pp) == stage)
        ]
        for stage in range(pp)
    ]
