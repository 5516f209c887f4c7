"""Partition of layers and parameters into pipeline stages."""

from __future__ import annotations

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import WTE, ParamSpec, head_of, param_specs


def stage_of(layer: int, layers: int, pp: int) -> int:
    """Return the stage of a block; stages differ by at most one block.

    Embeddings (layer -1) are on the first stage; final norm and head (``layers``) on the last.
    """
    if layer < 0:
        return 0
    if layer >= layers:
        return pp - 1
    longer = layers % pp  # number of stages with one block more
    short = layers // pp
    if layer < longer * (short + 1):
        return layer // (short + 1)
    return longer + (layer - longer * (short + 1)) // short


def layers_of(stage: int, layers: int, pp: int) -> range:
    """Return the blocks of a stage."""
    blocks = [layer for layer in range(layers) if stage_of(layer, layers, pp) == stage]
    return range(blocks[0], blocks[-1] + 1)


def stages_holding(tensor: ParamSpec, config: GPT2Config, pp: int) -> tuple[int, ...]:
    """Return the stages that hold a parameter: two for a tied word table, first and last."""
    stage = stage_of(tensor.layer, config.layers, pp)
    is_tied = tensor.name == WTE == head_of(config) and pp > 1
    return (stage, pp - 1) if is_tied else (stage,)


def stage_tensors(config: GPT2Config, stage: int, pp: int) -> list[ParamSpec]:
    """Return the parameters of one stage."""
    return [tensor for tensor in param_specs(config) if stage in stages_holding(tensor, config, pp)]
