"""Tensors of distributed checkpoints: shapes that can be sharded by axis, and their layouts.

Two shapes differ from those of whole files: c_attn is ``[hidden, 3, hidden]``, so that sharding the
last axis splits by heads, and vocabulary tables have ``GPT2Config.padded_vocab`` rows. Strategy
files, rank files and the plan are all derived from here.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.layout.params import ParamSpec, padded_shape, param_specs
from gpt2dsl.layout.pipeline_stages import stages_holding
from gpt2dsl.layout.shard_spec import has_equal_rows
from gpt2dsl.layout.tensor_layout import Shape, TensorLayout

MOMENTS = {"adamw": ("m", "v"), "sgd": ("u",)}
"""Optimizer → name prefixes of its state: ``m.transformer.wte.weight``."""

MASTER = "master"
"""Name prefix of a float32 master weight, saved if the weights' file is narrower."""

STATES = (*MOMENTS["adamw"], *MOMENTS["sgd"], MASTER)
"""All prefixes of parameter names."""

_COPY, _SHARD = 1, 0  # axes of [dp, mp], counted from the last


@attrs.frozen(kw_only=True)
class CheckpointTensorSpec:
    """Tensor of a distributed checkpoint.

    Attributes:
        name: name of a parameter, with a prefix of ``STATES`` for its state.
        shape: unsharded shape.
        layout: sharding over the ranks of a stage.
        stages: pipeline stages that hold it.
    """

    name: str
    shape: Shape
    layout: TensorLayout
    stages: tuple[int, ...]


def filed(
    config: GPT2Config,
    ranks: ParallelDims,
    states: Sequence[str] = (),
    *,
    zero: bool = False,
    once: bool = False,
) -> list[CheckpointTensorSpec]:
    """Return every tensor in forward order, parameters before states.

    Args:
        config: the network.
        ranks: dp, mp and pp.
        states: prefixes of the states to include, from ``STATES``.
        zero: whether moments are sharded over data parallel replicas (ZeRO-1).
        once: whether all tensors are, so that each byte is in one file: the checkpoints of a run.
    """
    return [
        _filed(tensor, config, ranks, state, shares=once or (zero and state not in ("", MASTER)))
        for state in ("", *states)
        for tensor in param_specs(config)
    ]


def state_of(name: str) -> str:
    """Return a name's state prefix: "m", "v", "u", "master", or "" for a parameter."""
    prefix = name.partition(".")[0]
    return prefix if prefix in STATES else ""


def shape_in_files(tensor: ParamSpec, config: GPT2Config) -> Shape:
    """Return the unsharded shape of a parameter in distributed checkpoints."""
    if tensor.fused > 1:
        return (*tensor.shape[:-1], tensor.fused, tensor.shape[-1] // tensor.fused)
    return padded_shape(tensor, config)


def shape_in_whole_files(tensor: ParamSpec, config: GPT2Config, state: str) -> Shape:
    """Return the shape of a parameter or its state; moments of vocabulary tables are padded."""
    return tensor.shape if state in ("", MASTER) else padded_shape(tensor, config)


def _filed(
    tensor: ParamSpec, config: GPT2Config, ranks: ParallelDims, state: str, *, shares: bool
) -> CheckpointTensorSpec:
    shape = shape_in_files(tensor, config)
    axes = [-1] * len(shape)
    if tensor.split is not None:
        axes[-1 if tensor.fused > 1 else tensor.split] = _SHARD
    layout = TensorLayout((ranks.dp, ranks.mp), tuple(axes))
    if shares and has_equal_rows(layout.part(shape), ranks.dp):
        layout = _shared(layout)
    return CheckpointTensorSpec(
        name=f"{state}.{tensor.name}" if state else tensor.name,
        shape=shape,
        layout=layout,
        stages=stages_holding(tensor, config, ranks.pp),
    )


def _shared(layout: TensorLayout) -> TensorLayout:
    """Return the layout with its rows sharded over dp.

    Rows that mp does not shard are sharded by ``axes``, others by ``shared``: only for the latter
    does MindSpore's transform_checkpoints interpret ``shared`` as meant here.
    """
    if layout.axes[0] == _SHARD:
        return attrs.evolve(layout, shared=layout.devices[0])
    return attrs.evolve(layout, axes=(_COPY, *layout.axes[1:]))
