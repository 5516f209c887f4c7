"""Parameters of a rank: its stage's tensors, sharded by tensor parallelism.

A plan's layout, memory and traffic are all derived from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.params import SCORE, padded_shape, param_specs
from gpt2dsl.layout.pipeline_stages import stage_of, stage_tensors
from gpt2dsl.layout.shard_spec import ShardSpec, has_equal_rows, shape_by_rows, shard_specs
from gpt2dsl.layout.tensor_layout import Shape


@attrs.frozen(kw_only=True)
class LocalParam:
    """Parameter of the network and its shard on a rank.

    Attributes:
        name: as in ``layout.params`` and ``layout.lora``.
        shape: unsharded shape inside the network.
        split: sharding over mp.
        part: shape on a rank.
        layer: index of the block; -1 before the blocks, ``GPT2Config.layers`` after them.
        is_adapter: whether it is a LoRA factor.
        is_trained: whether it is trained.
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
        """Number of elements on a rank."""
        return math.prod(self.part)

    def is_sharded(self, dp: int) -> bool:
        """Return whether ZeRO-1 can shard its optimizer state into equal rows over dp.

        See Rajbhandari et al. 2020, ZeRO.
        """
        return has_equal_rows(shape_by_rows(self.name, self.part), dp)

    def state(self, dp: int) -> Shape:
        """Return the shape of its optimizer state on a rank, sharded over dp replicas."""
        return (self.part[0] // dp, *self.part[1:]) if self.is_sharded(dp) else self.part


def local_params(
    config: GPT2Config, adapters: Sequence[LoRASpec] = (), mp: int = 1
) -> list[LocalParam]:
    """Return the parameters of all stages."""
    cuts = shard_specs(config, adapters)

    def param(
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

    params = [
        param(
            tensor.name,
            padded_shape(tensor, config),
            tensor.layer,
            is_adapter=False,
            is_trained=not adapters or tensor.name == SCORE,
        )
        for tensor in param_specs(config)
    ]
    return params + [
        param(name, shape, adapter.layer, is_adapter=True, is_trained=True)
        for adapter in adapters
        for name, shape in adapter.shapes.items()
    ]


def on_stages(
    config: GPT2Config, all_params: Sequence[LocalParam], pp: int
) -> list[list[LocalParam]]:
    """Return the parameters of each stage; a tied word table is on two, as in ``stage_tensors``."""
    names = [{tensor.name for tensor in stage_tensors(config, stage, pp)} for stage in range(pp)]
    return [
        [
            param
            for param in all_params
            if param.name in names[stage]
            or (param.is_adapter and stage_of(param.layer, config.layers, pp) == stage)
        ]
        for stage in range(pp)
    ]
