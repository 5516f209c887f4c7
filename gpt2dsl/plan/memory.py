"""What one rank needs in memory: weights, gradients, optimizer, activations."""

from __future__ import annotations

import math

import attrs

from gpt2dsl.layout.adapters import adapters
from gpt2dsl.layout.geometry import Geometry
from gpt2dsl.layout.stages import stage_of, stage_tensors
from gpt2dsl.layout.tensors import Tensor
from gpt2dsl.parts.bundle import Parts

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
FLOAT32 = 4
"""Bytes of a parameter, of its gradient and of each moment: parameters are master weights, and
rounded where they are used."""


@attrs.frozen
class Memory:
    """Bytes on the rank that needs the most."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All four."""
        return self.weights + self.gradients + self.optimizer + self.activations


def memory(parts: Parts, geometry: Geometry) -> Memory:
    """The memory of the rank that needs the most, over all pipeline stages."""
    stages = [_stage_memory(parts, geometry, stage) for stage in range(parts.parallel.pp)]
    return max(stages, key=lambda stage: stage.total)


def _stage_memory(parts: Parts, geometry: Geometry, stage: int) -> Memory:
    parallel = parts.parallel
    held = stage_tensors(geometry, stage, parallel.pp)
    elements = sum(_elements(tensor, geometry, parallel.mp) for tensor in held)
    added = _adapter_parameters(parts, geometry, stage)
    training = parts.trains
    trained = (added if parts.lora else elements) if training else 0
    moments = 1 if parts.optim.name == "sgd" else 2
    sharded = parallel.dp if parallel.optimizer_shard else 1
    return Memory(
        weights=(elements + added) * FLOAT32,
        gradients=trained * FLOAT32,
        optimizer=math.ceil(trained * FLOAT32 * moments / sharded),
        activations=_training_activations(parts, geometry, stage)
        if training
        else _inference_activations(parts, geometry),
    )


def _elements(tensor: Tensor, geometry: Geometry, mp: int) -> int:
    """Elements of a tensor on one rank."""
    shape = list(tensor.shape)
    if tensor.name == "transformer.wte.weight":
        shape[0] = geometry.padded_vocab
    return math.prod(shape) // (mp if tensor.split is not None else 1)


def _adapter_parameters(parts: Parts, geometry: Geometry, stage: int) -> int:
    """Parameters of the adapters on the blocks of a stage."""
    if parts.lora is None:
        return 0
    pp = parts.parallel.pp
    return sum(
        one.size
        for one in adapters(geometry, parts.lora.settings())
        if stage_of(one.layer, geometry.layers, pp) == stage
    )


def _training_activations(parts: Parts, geometry: Geometry, stage: int) -> int:
    """Bytes kept from the forward pass for the backward pass."""
    parallel, train = parts.parallel, parts.train
    rows = max(1, train.batch_size // parallel.dp // parallel.micro_batches)
    tokens = rows * train.seq_length
    size = BYTES[parts.precision.compute]
    h, mp = geometry.hidden, parallel.mp
    scores = geometry.heads * train.seq_length
    # a token in a block: two norms, three residuals and two projections whole; q, k, v, context
    # and both sides of the activation split; probabilities and, in training, their masked copy
    whole, split = 7 * h, 4 * h + 2 * geometry.inner_width + 2 * scores
    block = tokens * (whole + split // mp) * size
    kept = tokens * h * size if parallel.recompute == "full" else block
    if parallel.recompute == "selective":
        kept = tokens * (whole + (split - 2 * scores) // mp) * size
    blocks = sum(
        stage_of(layer, geometry.layers, parallel.pp) == stage for layer in range(geometry.layers)
    )
    in_flight = min(parallel.micro_batches, parallel.pp - stage)
    working = block if parallel.recompute != "none" else 0
    head = 0
    if stage == parallel.pp - 1:
        head = 2 * tokens * (geometry.padded_vocab // mp) * BYTES["float32"]
    return blocks * kept * in_flight + working + head


def _inference_activations(parts: Parts, geometry: Geometry) -> int:
    """Bytes of one forward pass: the logits, and one block; for generation the cache."""
    if parts.task is not None and parts.task.name == "generate":
        return 2 * geometry.layers * geometry.positions * geometry.hidden * 4
    tokens = parts.train.batch_size * parts.train.seq_length // parts.parallel.dp
    block = tokens * (7 * geometry.hidden + 2 * geometry.inner_width) * 4
    return block + tokens * geometry.padded_vocab * 4
