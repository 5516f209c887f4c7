"""Host memory of one rank at a run's peaks: its start, a save, an evaluation.

MindSpore's own process comes on top. On CPU the host is the device: its network and optimizer
count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.memory import FLOAT32, of_inference, of_training
from gpt2dsl.plan.stages import StageSizes


@attrs.frozen
class HostMemory:
    """Bytes on the rank that needs the most.

    Attributes:
        start: while weights are drawn or read: the rank's own, and two whole tensors.
        save: while a checkpoint is written: with ``train.async_save`` a copy of the rank's part.
        evaluation: while held-out text is evaluated; 0 without it, or on another device.
    """

    start: int
    save: int
    evaluation: int


def of_host(parts: Parts, geometry: GPT2Config, stages: Sequence[StageSizes]) -> HostMemory:
    """Return the host memory of a training, at each peak of the rank that needs the most."""
    ranks = [_of_stage(parts, geometry, stage) for stage in stages]
    return HostMemory(*map(max, zip(*map(attrs.astuple, ranks), strict=True)))


def _of_stage(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> HostMemory:
    needed = of_training(parts, geometry, stage)
    on_host = parts.runtime.device == "cpu"
    held = needed.weights + needed.optimizer if on_host else 0
    largest = FLOAT32 * max(math.prod(param.shape) for param in stage.held)
    evaluates = on_host and bool(getattr(parts.task, "eval_data", ""))
    return HostMemory(
        start=(needed.weights if on_host else 0) + 2 * largest,
        save=held + (_part(parts, stage) if parts.train.async_save else 0),
        evaluation=held + of_inference(parts, geometry, stage).activations if evaluates else 0,
    )


def _part(parts: Parts, stage: StageSizes) -> int:
    """Return the bytes of a rank's part of a checkpoint, which replicas share."""
    moments = 1 if parts.optim.name == "sgd" else 2
    trained = stage.elements(where=lambda param: param.is_trained)
    return FLOAT32 * (1 + moments) * trained // parts.parallel.dp
