"""Memory of one rank: weights, gradients, optimizer state, saved activations.

MindSpore's own memory comes on top: its process, compiled graphs, and temporaries of operators.
"""

from __future__ import annotations

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.loss_chunks import chunk_count
from gpt2dsl.layout.params import by_layer, head_of
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan.stages import StageSizes

FLOAT32 = 4
"""Bytes of a parameter, of its gradient, of each moment and of an activation: only matrix products
use narrower dtypes, for which parameters and activations are rounded where they are used.
"""

HCCL_BUFFER = 200 * 2**20
"""Bytes of a buffer of HCCL, which has one to send and one to receive (HCCL_BUFFSIZE)."""


@attrs.frozen
class Memory:
    """Bytes on the rank that needs the most.

    Attributes:
        weights: parameters; with ZeRO-1 a second copy of the rows that the rank updates.
        gradients: gradients of a step, and those being accumulated into them.
        optimizer: optimizer state.
        activations: activations saved for the backward pass, and dropout masks.
        texts: a server's KV caches, once one text has reached the longest length.
        prompts: the most that a server's prompt cache takes.
        buffers: buffers of HCCL's communicators, on Ascend.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    texts: int = 0
    prompts: int = 0
    buffers: int = 0

    @property
    def total(self) -> int:
        """Sum of all."""
        return (
            self.weights + self.gradients + self.optimizer + self.activations
            + self.texts + self.prompts + self.buffers
        )  # fmt: skip


def of_training(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> Memory:
    """Return the memory of a rank of a stage in training."""
    trained = stage.elements(where=lambda param: param.is_trained)
    copied, state = _updated(parts, stage)
    moments = 1 if parts.optim.name == "sgd" else 2
    return Memory(
        weights=FLOAT32 * (stage.elements() + copied),
        gradients=FLOAT32 * (trained + _added(parts, geometry, stage)),
        optimizer=FLOAT32 * state * moments,
        activations=_training(parts, geometry, stage),
        buffers=_buffers(parts, stage),
    )


def of_inference(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> Memory:
    """Return the memory of a rank in a forward pass: weights, logits and one block.

    It computes the rows of a micro-batch at a time.
    """
    block = _Block.of(parts, geometry)
    size = stage.tokens * (block.around + block.inside + 3 * block.scores) * FLOAT32
    if stage.is_last and not geometry.labels:
        size += _logits(parts, geometry, stage.tokens)
    return Memory(FLOAT32 * stage.elements(), 0, 0, size)


def of_generation(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> Memory:
    """Return the memory of a rank in generation: weights, and the KV cache of a row."""
    cache = _cache(geometry) // FLOAT32 // parts.parallel.mp * FLOAT32
    return Memory(FLOAT32 * stage.elements(), 0, 0, cache)


def of_server(task: Serve, geometry: GPT2Config, stage: StageSizes) -> Memory:
    """Return a server's memory: KV caches of lengths that double, and one of a prefill."""
    texts, prompts = (2 * task.batch + 1) * _cache(geometry), task.cache_mb << 20
    return Memory(FLOAT32 * stage.elements(), 0, 0, 0, texts=texts, prompts=prompts)


def _buffers(parts: Parts, stage: StageSizes) -> int:
    """Return the bytes of HCCL's buffers, two for each of the rank's communicators."""
    parallel = parts.parallel
    if parts.runtime.device != "ascend" or parallel.ranks == 1:
        return 0
    communicators = 1 + (parallel.dp > 1) + (parallel.mp > 1)  # one of all ranks
    if parallel.pp > 1:
        communicators += 1 + stage.neighbours + (stage.is_first or stage.is_last)
    return communicators * 2 * HCCL_BUFFER


def _cache(geometry: GPT2Config) -> int:
    """Return the bytes of a row's KV cache."""
    return 2 * geometry.layers * geometry.positions * geometry.hidden * FLOAT32


def _added(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Return the elements of gradients that are being accumulated into others at a time.

    A layer's across micro-batches, or the head's across loss chunks.
    """
    if parts.parallel.micro_batches == 1:
        if geometry.labels or not stage.is_last or _portion(parts, stage.tokens) == stage.tokens:
            return 0
        head = head_of(geometry)
        return sum(param.size for param in stage.held if param.name == head and param.is_trained)
    trained = [param for param in stage.held if param.is_trained]
    layers = by_layer([param.name for param in trained])
    return max((sum(trained[i].size for i in layer) for layer in layers), default=0)


def _updated(parts: Parts, stage: StageSizes) -> tuple[int, int]:
    """Return the elements with a second copy, for the update, and those of one moment."""
    dp = parts.parallel.dp if parts.parallel.optimizer_shard else 1
    trained = [param for param in stage.held if param.is_trained]
    sharded = sum(param.size // dp for param in trained if param.is_sharded(dp))
    return sharded, sharded + sum(param.size for param in trained if not param.is_sharded(dp))


@attrs.frozen
class _Block:
    """Elements that a block saves per token on a rank.

    Attributes:
        rows: the residual stream: one hidden width, or a part of it under sequence parallel.
        around: the inputs and outputs of both norms.
        inside: queries, keys, values, context, and the input of the activation function.
        scores: one row of attention probabilities for each head.
        going: temporaries of the block whose backward pass runs: the output of the activation
            function, probabilities after dropout.
    """

    rows: int
    around: int
    inside: int
    scores: int
    going: int

    @classmethod
    def of(cls, parts: Parts, geometry: GPT2Config) -> _Block:
        h, mp = geometry.hidden, parts.parallel.mp
        scores = geometry.heads * parts.train.seq_length // mp
        rows = h // (mp if parts.parallel.sequence_parallel else 1)
        return cls(
            rows=rows,
            around=2 * rows + 2 * h,  # with sequence_parallel outputs of norms are saved gathered
            inside=(4 * h + geometry.inner_width) // mp,
            scores=scores,
            going=geometry.inner_width // mp + (scores if geometry.dropouts.attention else 0),
        )


def _training(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Return the bytes of saved activations: all of one micro-batch, inputs and masks of others."""
    under_way = min(parts.parallel.micro_batches, stage.pp - stage.index)
    block = _Block.of(parts, geometry)
    waiting = 0 if stage.is_first else geometry.hidden * FLOAT32
    masks = _masks(parts, geometry, stage, block)
    ahead = masks if parts.runtime.device == "cpu" else 0  # of the next micro-batch, on the host
    live = _kept(parts, stage, block) + block.scores  # the causal mask
    size = stage.tokens * ((waiting + masks) * under_way + ahead + live * FLOAT32)
    if stage.is_last and not geometry.labels:
        size += _logits(parts, geometry, stage.tokens)
    return size


def _logits(parts: Parts, geometry: GPT2Config, tokens: int) -> int:
    """Return the bytes of the logits of a loss chunk and of their gradient."""
    return 2 * geometry.padded_vocab // parts.parallel.mp * _portion(parts, tokens) * FLOAT32


def _portion(parts: Parts, tokens: int) -> int:
    """Return the tokens of a loss chunk."""
    parallel = parts.parallel
    return tokens // chunk_count(tokens, parallel.mp if parallel.sequence_parallel else 1)


def _kept(parts: Parts, stage: StageSizes, block: _Block) -> int:
    """Return the elements per token that the blocks save, with one block in recomputation."""
    blocks, dropped = len(stage.layers), _adapter_inputs(parts, stage)
    whole = block.around + block.inside + block.scores
    if parts.parallel.recompute == "full":
        return blocks * block.rows + whole + block.going + dropped // blocks
    if parts.parallel.recompute == "selective":
        return blocks * (block.around + block.inside) + block.scores + block.going + dropped
    return blocks * whole + block.going + dropped


def _masks(parts: Parts, geometry: GPT2Config, stage: StageSizes, block: _Block) -> int:
    """Return the bytes per token of the dropout masks, which are inputs of a step."""
    size = _adapter_inputs(parts, stage)
    drops, layers = geometry.dropouts, len(stage.layers)
    size += layers * block.scores if drops.attention else 0
    size += layers * 2 * block.rows if drops.residual else 0
    size += block.rows if stage.is_first and drops.embedding else 0
    return size


def _adapter_inputs(parts: Parts, stage: StageSizes) -> int:
    """Return the elements per token of the adapters' inputs, saved where they have dropout."""
    if not (parts.lora and parts.lora.dropout):
        return 0
    return sum(param.part[1] for param in stage.held if param.name.endswith(".lora_A"))
