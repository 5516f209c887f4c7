"""Bytes that a rank sends in an optimizer step.

Ring AllReduce (Patarasuk & Yuan 2009) sends ``2 (n - 1) / n`` times the size that is summed.
Scalars (the loss, the gradient norm) and evaluations are left out.
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
"""Bytes of an element that is sent, whatever dtype matrix products compute in."""


@attrs.frozen
class Traffic:
    """Bytes that a rank sends in an optimizer step; each is that of the rank that sends the most.

    Attributes:
        dp: gradients to other data parallel replicas, and with ZeRO-1 updated parameters.
        mp: activations and their gradients to the tensor parallel group.
        pp: activations and their gradients to other pipeline stages, and the gradient of tied wte.
    """

    dp: int
    mp: int
    pp: int


def ring(ranks: int, size: int) -> int:
    """Return the bytes that each rank sends in a ring AllReduce of ``size`` bytes."""
    return 2 * (ranks - 1) * size // ranks


def traffic(parts: Parts, geometry: GPT2Config, stages: Sequence[StageSizes]) -> Traffic:
    """Return the traffic of a training."""

    def most(of: Callable[[Parts, GPT2Config, StageSizes], int]) -> int:
        return max(of(parts, geometry, stage) for stage in stages)

    return Traffic(dp=most(_of_copies), mp=most(_of_shards), pp=most(_of_stages))


def _of_copies(parts: Parts, _: GPT2Config, stage: StageSizes) -> int:
    """Return the bytes of gradients, and under ZeRO-1 of updated parameters, of a step."""
    parallel = parts.parallel
    summed = stage.elements(where=lambda param: param.is_trained)
    if parallel.optimizer_shard:
        summed += stage.elements(
            where=lambda param: param.is_trained and param.is_sharded(parallel.dp)
        )
    return ring(parallel.dp, summed * FLOAT32)


def _of_shards(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Return the bytes of Megatron's AllReduces (Shoeybi et al. 2019, section 3)."""
    parallel = parts.parallel
    hidden = _sums_of_hidden(parts, geometry, stage) * stage.tokens * geometry.hidden
    loss = 0
    if stage.is_last and not geometry.labels:
        loss = (parallel.mp + 2) * stage.tokens  # maxima of the logits of each rank, and two sums
    weights = stage.elements(where=lambda param: _is_summed(parts, param))
    each = ring(parallel.mp, (hidden + loss + weights) * FLOAT32)
    return each * parallel.micro_batches


def _sums_of_hidden(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Return the number of AllReduces of ``[tokens, hidden]`` over mp, forward and backward.

    With sequence parallelism a gather and a scatter, each an AllReduce, replace one AllReduce
    (Korthikanti et al. 2022), and the ends of a stage gather too. Recomputation needs no output:
    it skips the last AllReduce of a block or stage, and with ``full``, where a block keeps only
    its input, all of the stage's last block.
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
        sums += 1 if stage.is_last else 2  # the embedding's
    if stage.is_first and parts.lora:
        sums -= 1 + ends  # no gradient flows below the first adapter
    if stage.is_last and not geometry.labels:
        sums += 1  # the gradient of the head's input
    return sums


def _is_summed(parts: Parts, one: LocalParam) -> bool:
    """Return whether ranks of mp have partial gradients of a replicated parameter."""
    is_whole = one.is_trained and one.split.axis is None and one.name != SCORE
    return is_whole and (one.is_adapter or parts.parallel.sequence_parallel)


def _of_stages(parts: Parts, geometry: GPT2Config, stage: StageSizes) -> int:
    """Return the bytes sent to other stages; a transfer is an AllReduce of two ranks."""
    transfer = stage.tokens * geometry.hidden * FLOAT32
    sent = 2 * stage.neighbours * parts.parallel.micro_batches * transfer
    if stage.is_first is not stage.is_last and head_of(geometry) == WTE:
        sent += FLOAT32 * stage.elements(where=lambda param: param.name == WTE and param.is_trained)
    return sent
