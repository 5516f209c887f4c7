"""The tensors of distributed checkpoints: shapes that plain cuts by axis fit, and their layouts.

Two shapes differ from those of whole files: c_attn is ``[hidden, 3, hidden]``, so that a cut of its
last axis cuts by heads, and tables of the vocabulary have ``GPT2Config.padded_vocab`` rows.
Strategy files, rank files and the plan all come from here.
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
"""Optimizer → what comes before the names of its state: ``m.transformer.wte.weight``."""

MASTER = "master"
"""Before the name of a parameter in float32, where the weights' file is narrower."""

STATES = (*MOMENTS["adamw"], *MOMENTS["sgd"], MASTER)
"""Everything that a parameter's name can have before it."""

_COPY, _SHARD = 1, 0  # axes of [dp, mp], counted from the last


@attrs.frozen(kw_only=True)
class CheckpointTensorSpec:
    """A tensor of distributed checkpoints.

    Attributes:
        name: of the network's parameter, or of a state of it.
        shape: of the whole.
        layout: how it is cut over the ranks of a stage.
        stages: that hold it.
    """

    name: str
    shape: Shape
    layout: TensorLayout
    stages: tuple[int, ...]


def filed(
    geometry: GPT2Config, ranks: ParallelDims, states: Sequence[str] = (), *, zero: bool = False
) -> list[CheckpointTensorSpec]:
    """Return every tensor, in the order of the forward pass; states after the parameters.

    Args:
        geometry: the network.
        ranks: dp, mp and pp.
        states: what comes before the names of each parameter's states: some of ``STATES``.
        zero: whether dp copies share the moments out (ZeRO-1).
    """
    return [
        _filed(tensor, geometry, ranks, state, zero=zero and state != MASTER)
        for state in ("", *states)
        for tensor in param_specs(geometry)
    ]


def state_of(name: str) -> str:
    """What a tensor is of its parameter: "m", "v", "u", "master", or "" for the parameter."""
    prefix = name.partition(".")[0]
    return prefix if prefix in STATES else ""


def shape_in_files(tensor: ParamSpec, geometry: GPT2Config) -> Shape:
    """Return the shape of a parameter in distributed files."""
    if ".c_attn." in tensor.name:
        return (*tensor.shape[:-1], 3, tensor.shape[-1] // 3)
    return padded_shape(tensor, geometry)


def network_shape(tensor: ParamSpec, geometry: GPT2Config, state: str) -> Shape:
    """Return the shape of a parameter's state in whole files: moments of tables are padded."""
    return tensor.shape if state == MASTER else padded_shape(tensor, geometry)


def _filed(
    tensor: ParamSpec, geometry: GPT2Config, ranks: ParallelDims, state: str, *, zero: bool
) -> CheckpointTensorSpec:
    shape = shape_in_files(tensor, geometry)
    axes = [-1] * len(shape)
    if tensor.split is not None:
        axes[-1 if ".c_attn." in tensor.name else tensor.split] = _SHARD
    layout = TensorLayout((ranks.dp, ranks.mp), tuple(axes))
    if state and zero and has_equal_rows(layout.part(shape), ranks.dp):
        layout = _shared(layout)
    return CheckpointTensorSpec(
        name=f"{state}.{tensor.name}" if state else tensor.name,
        shape=shape,
        layout=layout,
        stages=stages_holding(tensor, geometry, ranks.pp),
    )


def _shared(layout: TensorLayout) -> TensorLayout:
    """The layout with its rows shared out over dp; by ``axes`` where they are not cut already.

    MindSpore's transform_checkpoints takes ``shared`` as it is meant here only in the other case.
    """
    if layout.axes[0] == _SHARD:
        return attrs.evolve(layout, shared=layout.devices[0])
    return attrs.evolve(layout, axes=(_COPY, *layout.axes[1:]))
