"""What a rank holds: its stage's tensors, each as the part that tensor parallelism leaves it.

A plan's layout, memory and traffic all come from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import SCORE, padded_shape, param_specs
from gpt2dsl.layout.pipeline_stages import stage_of, stage_tensors
from gpt2dsl.layout.shard_spec import ShardSpec, has_equal_rows, shard_specs
from gpt2dsl.layout.tensor_layout import Shape


@attrs.frozen(kw_only=True)
class LocalParam:
    """A parameter of the network, and a rank's part of it.

    Attributes:
        name: as in ``layout.tensors`` and ``layout.adapters``.
        shape: of the whole, as the network has it.
        split: how it is cut over mp.
        part: the shape on a rank.
        layer: the block, -1 before them, ``GPT2Config.layers`` after them.
        is_adapter: whether it is a factor of LoRA.
        is_trained: whether training changes it.
    """

    name: str
    shape: Shape
    split: ShardSpec
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
        """Return the shape of its optimizer state on a rank, over dp copies that share it."""
        return (self.part[0] // dp, *self.part[1:]) if self.is_sharded(dp) else self.part


def local_params(
    geometry: GPT2Config, adapters: Sequence[LoRASpec] = (), mp: int = 1
) -> list[LocalParam]:
    """Return every parameter, whatever its stage."""
    cuts = shard_specs(geometry, adapters)

    def one(
        name: str, shape: Shape, layer: int, *, is_adapter: bool, is_trained: bool
    ) -> LocalParam:
        return LocalParam(
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
        for tensor in param_specs(geometry)
    ]
    return found + [
        one(name, shape, adapter.layer, is_adapter=True, is_trained=True)
        for adapter in adapters
        for name, shape in adapter.shapes.items()
    ]


def on_stages(
    geometry: GPT2Config, all_held: Sequence[LocalParam], pp: int
) -> list[list[LocalParam]]:
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
