"""What one rank needs in memory: weights, gradients, optimizer, activations.

What MindSpore itself takes comes on top: its process, compiled graphs, and copies that live as
long as an operator.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.loss_chunks import chunk_count
from gpt2dsl.layout.params import by_layer, head_of
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan.stages import StageSizes

FLOAT32 = 4
"""Bytes of a parameter, of its gradient, of each moment and of an activation: products alone are
computed in narrower formats, from parameters and activations that are rounded where they are used.
"""


@attrs.frozen
class Memory:
    """Bytes on the rank that needs the most.

    Attributes:
        weights: parameters; with ZeRO-1 the rows that the rank updates are held once more.
        gradients: of a step, and where it has parts those that are just being added.
        optimizer: its state.
        activations: kept from the forward pass for the backward pass, with the dropout masks.
        texts: keys and values of a server's texts, once one was as long as can be.
        prompts: what a server keeps of prompts at most.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    texts: int = 0
    prompts: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return (
            self.weights + self.gradients + self.optimizer + self.activations
            + self.texts + self.prompts
        )  # fmt: skip


def memory(parts: Parts, geometry: GPT2Config, stages: Sequence[StageSizes]) -> Memory:
    """Return the memory of the rank that needs the most, over all pipeline stages."""
    return max((_of(parts, geometry, stage) for stage in stages), key=lambda one: one.total)


def _of(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> Memory:
    weights = stage.elements()
    if isinstance(parts.task, Serve):
        return _served(parts.task, geometry, FLOAT32 * weights)
    if not parts.trains:
        return Memory(FLOAT32 * weights, 0, 0, _inference(parts, geometry))
    trained = stage.elements(where=lambda one: one.is_trained)
    copied, state = _updated(parts, stage)
    moments = 1 if parts.optim.name == "sgd" else 2
    return Memory(
        weights=FLOAT32 * (weights + copied),
        gradients=FLOAT32 * (trained + _added(parts, geometry, stage)),
        optimizer=FLOAT32 * state * moments,
        activations=_training(parts, geometry, stage),
    )


def _served(task: Serve, geometry: GPT2Config, weights: int) -> Memory:
    """Of a server: caches of each length, half as long as the next one, and a prompt's own."""
    text = 2 * geometry.layers * geometry.positions * geometry.hidden * FLOAT32
    return Memory(weights, 0, 0, 0, texts=(2 * task.batch + 1) * text, prompts=task.cache_mb << 20)


def _added(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Return the elements of the gradients that are added to others at once.

    Those of a layer to other micro-batches', that of the head to other portions'.
    """
    if parts.parallel.micro_batches == 1:
        if geometry.labels or not stage.is_last or _portion(parts, stage.tokens) == stage.tokens:
            return 0
        head = head_of(geometry)
        return sum(held.size for held in stage.held if held.name == head and held.is_trained)
    trained = [held for held in stage.held if held.is_trained]
    layers = by_layer([held.name for held in trained])
    return max((sum(trained[i].size for i in layer) for layer in layers), default=0)


def _updated(parts: Parts, stage: StageSizes) -> tuple[int, int]:
    """Elements that a rank has a second copy of to update, and elements of one moment."""
    dp = parts.parallel.dp if parts.parallel.optimizer_shard else 1
    trained = [one for one in stage.held if one.is_trained]
    own = sum(one.size // dp for one in trained if one.is_sharded(dp))
    return own, own + sum(one.size for one in trained if not one.is_sharded(dp))


@attrs.frozen
class _Block:
    """Elements that a block keeps for each token, on a rank.

    Attributes:
        rows: one width of what a rank has of the rows between attention and MLP.
        around: the inputs and outputs of both norms.
        inside: queries, keys, values, context, and what the activation is given.
        scores: one row of attention for each head, kept as probabilities.
        going: what the block that is being gone back through finds besides: the activation's
            result, dropped probabilities.
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
            around=2 * rows + 2 * h,  # with sequence_parallel norms are kept gathered
            inside=(4 * h + geometry.inner_width) // mp,
            scores=scores,
            going=geometry.inner_width // mp + (scores if geometry.dropouts.attention else 0),
        )


def _training(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Of all micro-batches under way only the input of a stage and the masks; one goes through."""
    under_way = min(parts.parallel.micro_batches, stage.pp - stage.index)
    block = _Block.of(parts, geometry)
    waiting = 0 if stage.is_first else geometry.hidden * FLOAT32
    waiting += _masks(parts, geometry, stage, block)
    alive = _kept(parts, stage, block) + block.scores  # what hides later tokens
    found = stage.tokens * (waiting * under_way + alive * FLOAT32)
    if stage.is_last and not geometry.labels:
        found += _logits(parts, geometry, stage.tokens)
    return found


def _logits(parts: Parts, geometry: GPT2Config, tokens: int) -> int:
    """Return the bytes of the logits that are held at once, and of their gradient."""
    return 2 * geometry.padded_vocab // parts.parallel.mp * _portion(parts, tokens) * FLOAT32


def _portion(parts: Parts, tokens: int) -> int:
    """Return the tokens whose logits are held at once."""
    parallel = parts.parallel
    return tokens // chunk_count(tokens, parallel.mp if parallel.sequence_parallel else 1)


def _kept(parts: Parts, stage: StageSizes, block: _Block) -> int:
    """Return the elements a token that the blocks keep, with one block that is computed again."""
    blocks, dropped = len(stage.layers), _adapter_inputs(parts, stage)
    whole = block.around + block.inside + block.scores
    if parts.parallel.recompute == "full":
        return blocks * block.rows + whole + block.going + dropped // blocks
    if parts.parallel.recompute == "selective":
        return blocks * (block.around + block.inside) + block.scores + block.going + dropped
    return blocks * whole + block.going + dropped


def _masks(parts: Parts, geometry: GPT2Config, stage: StageSizes, block: _Block) -> int:
    """Return the bytes a token of the dropout masks, which a step is given."""
    found = _adapter_inputs(parts, stage)
    drops, layers = geometry.dropouts, len(stage.layers)
    found += layers * block.scores if drops.attention else 0
    found += layers * 2 * block.rows if drops.residual else 0
    found += block.rows if stage.is_first and drops.embedding else 0
    return found


def _adapter_inputs(parts: Parts, stage: StageSizes) -> int:
    """Return the elements a token of what adapters take, where some of it is dropped."""
    if not (parts.lora and parts.lora.dropout):
        return 0
    return sum(one.part[1] for one in stage.held if one.name.endswith(".lora_A"))


def _inference(parts: Parts, geometry: GPT2Config) -> int:
    """Of one forward pass: the logits, and one block; for generation the cache of a row."""
    mp = parts.parallel.mp
    if parts.task is not None and parts.task.kind == "generate":
        return 2 * geometry.layers * geometry.positions * geometry.hidden // mp * FLOAT32
    block = _Block.of(parts, geometry)
    tokens = parts.train.batch_size * parts.train.seq_length
    found = tokens * (block.around + block.inside + 3 * block.scores) * FLOAT32
    return found if geometry.labels else found + _logits(parts, geometry, tokens)
