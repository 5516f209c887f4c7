"""Dropout masks as a function of (seed, step, layer, place, row, head): no state, no MindSpore.

Each mask is cut from a stream of Philox (Salmon et al. 2011) whose key is the seed and the step,
and whose counter starts at the place: masks are the same in any layout and after any resume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from gpt2dsl.distributed.process_groups import NO_TENSOR_PARALLEL, TensorParallelGroup
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASpec
from gpt2dsl.layout.shard_spec import ShardSpec, is_column

Mask = NDArray[np.bool_]

LEVELS = 2**16
"""Masks compare 16 random bits with a threshold."""

EMBEDDING, ATTENTION, ATTENTION_OUT, MLP_OUT, ADAPTERS = range(5)
"""The places of a layer; the embedding stands before layer 0."""


def keep(probability: float) -> float:
    """Return the exact probability with which masks keep an element, for a dropout probability."""
    return _threshold(probability) / LEVELS


def masks_of_block(geometry: GPT2Config) -> int:
    """Return how many masks of its own a block takes: of attention, of both projections."""
    drops = geometry.dropouts
    return (1 if drops.attention else 0) + (2 if drops.residual else 0)


def masks(
    geometry: GPT2Config,
    seed: int,
    step: int,
    rows: Sequence[int],
    time: int,
    *,
    adapters: Sequence[LoRASpec] = (),
    adapter_dropout: float = 0.0,
    shard: TensorParallelGroup = NO_TENSOR_PARALLEL,
    layers: range | None = None,
) -> Iterator[Mask]:
    """Yield the masks of a step, in the order in which the network takes them; True is kept.

    Args:
        geometry: the network; no masks where one of its dropouts is 0.
        seed: of the run.
        step: steps done before this one.
        rows: places of the rows in the step's global batch.
        time: tokens of a row.
        adapters: of the network.
        adapter_dropout: probability on their inputs.
        shard: the rank's part: its heads, its inputs of row linears.
        layers: the blocks of its stage; all where it is not said.

    Yields:
        ``[b t, h]`` of the embedding, then for each layer ``[b n, t, t]`` of the attention,
        ``[b t, h]`` of its projection and ``[b t, h]`` of the MLP's, then ``[b t, in]`` of each
        adapter of the layer.
    """
    draw = _Draw(seed, step, rows, time)
    part, of_rows = (shard.mp, shard.index), ShardSpec(0 if shard.sequence else None)
    layers = range(geometry.layers) if layers is None else layers
    drops, hidden = geometry.dropouts, geometry.hidden
    if drops.embedding and 0 in layers:
        yield of_rows.cut(draw.flat(drops.embedding, hidden, 0, EMBEDDING), *part)
    for layer in layers:
        if drops.attention:
            yield draw.of_attention(geometry, layer, shard)
        for place in (ATTENTION_OUT, MLP_OUT) if drops.residual else ():
            yield of_rows.cut(draw.flat(drops.residual, hidden, layer, place), *part)
        own = (one for one in adapters if one.layer == layer and adapter_dropout)
        for one in own:
            mask = draw.flat(adapter_dropout, one.inputs, layer, ADAPTERS + one.slot)
            yield mask if is_column(one.module) else ShardSpec(1).cut(mask, *part)


@attrs.frozen
class _Draw:
    """Masks of one step's rows."""

    seed: int
    step: int
    rows: Sequence[int]
    time: int

    def flat(self, probability: float, width: int, layer: int, place: int) -> Mask:
        """``[b t, width]``."""
        mask = np.empty((len(self.rows), self.time, width), np.bool_)
        threshold = _threshold(probability)
        for i, row in enumerate(self.rows):
            _fill(mask[i], threshold, self.seed, self.step, layer, place, row, 0)
        return mask.reshape(-1, width)

    def of_attention(self, geometry: GPT2Config, layer: int, shard: TensorParallelGroup) -> Mask:
        """``[b n, t, t]``, of a rank's heads."""
        time, count = self.time, geometry.heads // shard.mp
        heads = range(shard.index * count, (shard.index + 1) * count)
        mask = np.empty((len(self.rows), len(heads), time, time), np.bool_)
        threshold = _threshold(geometry.dropouts.attention)
        for i, row in enumerate(self.rows):
            for head in heads:
                part = mask[i, head - heads.start]
                _fill(part, threshold, self.seed, self.step, layer, ATTENTION, row, head)
        return mask.reshape(-1, time, time)


def _fill(
    mask: Mask, threshold: int, seed: int, step: int, layer: int, place: int, row: int, head: int
) -> None:
    """Draw one row's and one head's part of a mask, in place."""
    counter = np.array([0, head, row, layer << 8 | place], np.uint64)
    stream = np.random.Philox(key=np.array([seed, step], np.uint64), counter=counter)
    words = stream.random_raw(-(-mask.size // 4))
    bits = words.view(np.uint16)[: mask.size].reshape(mask.shape)
    np.less(bits, threshold, out=mask)


def _threshold(probability: float) -> int:
    return round((1 - probability) * LEVELS)
