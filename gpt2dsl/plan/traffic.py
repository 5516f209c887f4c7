"""What a rank sends in an optimizer step, in bytes.

AllReduce in a ring (Patarasuk & Yuan 2009) sends ``2 (n - 1) / n`` times what is summed. Numbers
alone (the loss, the norm) and evaluations are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.local_params import LocalParam
from gpt2dsl.layout.params import SCORE, WTE, head_of
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.stages import StageSizes

FLOAT32 = 4
"""Bytes of a number that crosses, whatever products compute in."""


@attrs.frozen
class Traffic:
    """Bytes that a rank sends in an optimizer step; each of the rank that sends the most.

    Attributes:
        dp: gradients to the other copies, and with ZeRO-1 the updated parameters.
        mp: activations and their gradients to the ranks that share each layer.
        pp: activations and their gradients to other stages, and the tied word table's gradient.
    """

    dp: int
    mp: int
    pp: int


def ring(ranks: int, size: int) -> int:
    """Return the bytes that each of some ranks sends to sum ``size`` bytes."""
    return 2 * (ranks - 1) * size // ranks


def traffic(parts: Parts, geometry: GPT2Config, stages: Sequence[StageSizes]) -> Traffic:
    """Of a training."""

    def most(of: Callable[[Parts, GPT2Config, StageSizes], int]) -> int:
        return max(of(parts, geometry, stage) for stage in stages)

    return Traffic(dp=most(_of_copies), mp=most(_of_shards), pp=most(_of_stages))


def _of_copies(parts: Parts, _: GPT2Config, stage: StageSizes) -> int:
    """Gradients once a step; then, where each copy has updated some rows, all of them."""
    parallel = parts.parallel
    summed = stage.elements(where=lambda one: one.is_trained)
    if parallel.optimizer_shard:
        summed += stage.elements(where=lambda one: one.is_trained and one.is_sharded(parallel.dp))
    return ring(parallel.dp, summed * FLOAT32)


def _of_shards(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Megatron's sums (Shoeybi et al. 2019, section 3), once a micro-batch."""
    parallel = parts.parallel
    hidden = _sums_of_hidden(parts, geometry, stage) * stage.tokens * geometry.hidden
    loss = 0
    if stage.is_last and not geometry.labels:
        loss = (parallel.mp + 2) * stage.tokens  # each rank's largest logit, and two sums
    weights = stage.elements(where=lambda one: _is_summed(parts, one))
    each = ring(parallel.mp, (hidden + loss + weights) * FLOAT32)
    return each * parallel.micro_batches


def _sums_of_hidden(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Return how many ``[tokens, hidden]`` are summed over mp for a micro-batch, there and back.

    With sequence parallelism a gather and a scatter, each a sum, stand in the place of one sum
    (Korthikanti et al. 2022), and the ends of a stage gather too. What is computed again needs no
    output: not a block's last sum nor a stage's, and none of its last block where that keeps its
    input only.
    """
    parallel, blocks = parts.parallel, len(stage.layers)
    ends = a_gather = int(parallel.sequence_parallel)
    a_block = 2 * (1 + a_gather)
    sums = 2 * blocks * a_block + 2 * ends
    is_full = parallel.recompute == "full"
    if is_full:
        sums += blocks * (a_block - 1)
    if not stage.is_last:
        sums += blocks * a_block - (a_block if is_full else 1)
    if stage.is_first:
        sums += 1 if stage.is_last else 2  # of the embedding
    if stage.is_first and parts.lora:
        sums -= 1 + ends  # nothing below the first adapter takes a gradient
    if stage.is_last and not geometry.labels:
        sums += 1  # the gradient of the head's input
    return sums


def _is_summed(parts: Parts, one: LocalParam) -> bool:
    """Whether each rank finds a part of the gradient of a parameter that all of them hold."""
    is_whole = one.is_trained and one.split.axis is None and one.name != SCORE
    return is_whole and (one.is_adapter or parts.parallel.sequence_parallel)


def _of_stages(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Return a transfer is a sum of two ranks, of which one has zeros: both send its size."""
    transfer = stage.tokens * geometry.hidden * FLOAT32
    sent = 2 * stage.neighbours * parts.parallel.micro_batches * transfer
    if stage.is_first is not stage.is_last and head_of(geometry) == WTE:
        sent += FLOAT32 * stage.elements(where=lambda one: one.name == WTE and one.is_trained)
    return sent
