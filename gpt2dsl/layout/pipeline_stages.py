"""Which pipeline stage holds which layers."""

from __future__ import annotations

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import WTE, ParamSpec, head_of, param_specs


def stage_of(layer: int, layers: int, pp: int) -> int:
    """Return the stage of a block: balanced, so that stages differ by one block at most.

    What comes before the blocks (layer -1) is on the first stage, what comes after on the last.
    """
    if layer < 0:
        return 0
    if layer >= layers:
        return pp - 1
    longer = layers % pp  # this many stages have one block more
    short = layers // pp
    if layer < longer * (short + 1):
        return layer // (short + 1)
    return longer + (layer - longer * (short + 1)) // short


def layers_of(stage: int, layers: int, pp: int) -> range:
    """Return the blocks of a stage."""
    held = [layer for layer in range(layers) if stage_of(layer, layers, pp) == stage]
    return range(held[0], held[-1] + 1)


def stages_holding(tensor: ParamSpec, geometry: GPT2Config, pp: int) -> tuple[int, ...]:
    """Return the stages of a parameter. A tied word table is on the first and on the last."""
    stage = stage_of(tensor.layer, geometry.layers, pp)
    is_tied = tensor.name == WTE == head_of(geometry) and pp > 1
    return (stage, pp - 1) if is_tied else (stage,)


def stage_tensors(geometry: GPT2Config, stage: int, pp: int) -> list[ParamSpec]:
    """Return the parameters of one stage."""
    return [
        tensor for tensor in param_specs(geometry) if stage in stages_holding(tensor, geometry, pp)
    ]
