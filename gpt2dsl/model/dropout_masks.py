"""Stateless dropout masks: a pure function of (seed, step, layer, site, row, head), in NumPy.

Each mask is cut from a Philox stream (Salmon et al. 2011) keyed by seed and step, with a counter
that starts at (layer, site, row, head): masks are the same in any parallel layout and after any
resume.
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
"""Number of thresholds: masks compare 16 random bits with one."""

EMBEDDING, ATTENTION, ATTENTION_OUT, MLP_OUT, ADAPTERS = range(5)
"""Dropout sites within a layer; the embedding counts as layer 0."""


def keep(probability: float) -> float:
    """Return the exact keep probability of masks drawn for a dropout probability."""
    return _threshold(probability) / LEVELS


def masks_of_block(config: GPT2Config) -> int:
    """Return the number of dropout masks of a block, adapters excluded."""
    drops = config.dropouts
    return (1 if drops.attention else 0) + (2 if drops.residual else 0)


def masks(
    config: GPT2Config,
    seed: int,
    step: int,
    rows: Sequence[int],
    time: int,
    *,
    adapters: Sequence[LoRASpec] = (),
    adapter_dropout: float = 0.0,
    group: TensorParallelGroup = NO_TENSOR_PARALLEL,
    layers: range | None = None,
) -> Iterator[Mask]:
    """Yield a step's dropout masks in the order in which the network uses them; True means keep.

    Args:
        config: the network; a dropout probability of 0 yields no masks.
        seed: the run's seed.
        step: number of steps completed before this one.
        rows: indices of the rows in the step's global batch.
        time: tokens per row.
        adapters: the network's LoRA adapters.
        adapter_dropout: dropout probability on adapter inputs.
        group: the rank's tensor parallel group: its heads, its inputs of row-parallel linears.
        layers: the blocks of the rank's pipeline stage; all by default.

    Yields:
        ``[b t, h]`` for the embedding, then for each layer ``[b n, t, t]`` for the attention,
        ``[b t, h]`` for its projection, ``[b t, h]`` for the MLP's projection, and ``[b t, in]``
        for each adapter.
    """
    draw = _Draw(seed, step, rows, time)
    shard = group.size, group.index
    rows_spec = ShardSpec(0 if group.sequence_parallel else None)
    layers = range(config.layers) if layers is None else layers
    drops, hidden = config.dropouts, config.hidden
    if drops.embedding and 0 in layers:
        yield rows_spec.cut(draw.flat(drops.embedding, hidden, 0, EMBEDDING), *shard)
    for layer in layers:
        if drops.attention:
            yield draw.of_attention(config, layer, group)
        for site in (ATTENTION_OUT, MLP_OUT) if drops.residual else ():
            yield rows_spec.cut(draw.flat(drops.residual, hidden, layer, site), *shard)
        layer_adapters = (
            adapter for adapter in adapters if adapter.layer == layer and adapter_dropout
        )
        for adapter in layer_adapters:
            mask = draw.flat(adapter_dropout, adapter.inputs, layer, ADAPTERS + adapter.slot)
            yield mask if is_column(adapter.module) else ShardSpec(1).cut(mask, *shard)


@attrs.frozen
class _Draw:
    """Mask generator for the rows of one step."""

    seed: int
    step: int
    rows: Sequence[int]
    time: int

    def flat(self, probability: float, width: int, layer: int, site: int) -> Mask:
        """Draw a mask of activations, ``[b t, width]``."""
        mask = np.empty((len(self.rows), self.time, width), np.bool_)
        threshold = _threshold(probability)
        for i, row in enumerate(self.rows):
            _fill(mask[i], threshold, self.seed, self.step, layer, site, row, 0)
        return mask.reshape(-1, width)

    def of_attention(self, config: GPT2Config, layer: int, group: TensorParallelGroup) -> Mask:
        """Draw the attention mask of a rank's heads, ``[b n, t, t]``."""
        time, count = self.time, config.heads // group.size
        heads = range(group.index * count, (group.index + 1) * count)
        mask = np.empty((len(self.rows), len(heads), time, time), np.bool_)
        threshold = _threshold(config.dropouts.attention)
        for i, row in enumerate(self.rows):
            for head in heads:
                part = mask[i, head - heads.start]
                _fill(part, threshold, self.seed, self.step, layer, ATTENTION, row, head)
        return mask.reshape(-1, time, time)


def _fill(
    mask: Mask, threshold: int, seed: int, step: int, layer: int, site: int, row: int, head: int
) -> None:
    """Fill one row's and head's part of a mask in site."""
    counter = np.array([0, head, row, layer << 8 | site], np.uint64)
    stream = np.random.Philox(key=np.array([seed, step], np.uint64), counter=counter)
    words = stream.random_raw(-(-mask.size // 4))
    bits = words.view(np.uint16)[: mask.size].reshape(mask.shape)
    np.less(bits, threshold, out=mask)


def _threshold(probability: float) -> int:
    return round((1 - probability) * LEVELS)
