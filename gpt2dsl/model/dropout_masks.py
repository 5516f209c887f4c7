"""Stateless dropout masks: a pure function of (seed, step, layer, site, row, head), in NumPy.

Each mask is cut from a Philox stream (Salmon et al. 2011) keyed by seed and step, with a counter
that starts at (layer, site, row, head): masks are the same in any parallel layout and after any
resume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import partial

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

PORTION = 2**20
"""Elements that a thread draws at least before it takes the next portion: about a millisecond."""

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
    pool: Executor | None = None,
) -> Iterator[Mask]:
    """Return a step's dropout masks in the order in which the network uses them; True means keep.

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
        pool: threads that begin to draw all masks now; without them each is drawn when it is asked
            for.

    Yields:
        ``[b t, h]`` for the embedding, then for each layer ``[b n, t, t]`` for the attention,
        ``[b t, h]`` for its projection, ``[b t, h]`` for the MLP's projection, and ``[b t, in]``
        for each adapter.
    """
    sites = _Sites(
        config, seed, step, rows, time, adapters, adapter_dropout, group,
        range(config.layers) if layers is None else layers,
    )  # fmt: skip
    if pool is None:
        return (site.drawn() for site in sites)
    started = [(site, site.start(pool)) for site in sites]
    return (site.drawn_by(futures) for site, futures in started)


@attrs.frozen
class _Site:
    """A mask to be drawn in pieces, each from a stream of its own.

    Attributes:
        whole: memory of the mask, over all tensor parallel ranks.
        fills: one call for each piece, which draws it.
        spec: which part of it is a rank's.
        group: the tensor parallel group.
    """

    whole: Mask
    fills: Sequence[partial[None]]
    spec: ShardSpec
    group: TensorParallelGroup

    def drawn(self) -> Mask:
        """Draw the mask, and return the rank's part."""
        _call_all(self.fills)
        return self._part()

    def start(self, pool: Executor) -> list[Future[None]]:
        """Let threads draw the mask, a portion at a time."""
        each = max(1, PORTION * len(self.fills) // max(1, self.whole.size))
        portions = (self.fills[i : i + each] for i in range(0, len(self.fills), each))
        return [pool.submit(_call_all, portion) for portion in portions]

    def drawn_by(self, futures: Sequence[Future[None]]) -> Mask:
        """Wait until the threads have drawn the mask, and return the rank's part."""
        for future in futures:
            future.result()
        return self._part()

    def _part(self) -> Mask:
        part: Mask = self.spec.cut(self.whole, self.group.size, self.group.index)
        return part


@attrs.frozen
class _Sites:
    """The masks of the rows of a step, in order; arguments as for ``masks``."""

    config: GPT2Config
    seed: int
    step: int
    rows: Sequence[int]
    time: int
    adapters: Sequence[LoRASpec]
    adapter_dropout: float
    group: TensorParallelGroup
    layers: range

    def __iter__(self) -> Iterator[_Site]:
        drops, hidden = self.config.dropouts, self.config.hidden
        rows_spec = ShardSpec(0 if self.group.sequence_parallel else None)
        if drops.embedding and 0 in self.layers:
            yield self._flat(drops.embedding, hidden, 0, EMBEDDING, rows_spec)
        for layer in self.layers:
            if drops.attention:
                yield self._attention(layer)
            for site in (ATTENTION_OUT, MLP_OUT) if drops.residual else ():
                yield self._flat(drops.residual, hidden, layer, site, rows_spec)
            for adapter in self.adapters if self.adapter_dropout else ():
                if adapter.layer == layer:
                    yield self._adapter(adapter)

    def _flat(
        self, probability: float, width: int, layer: int, site: int, spec: ShardSpec
    ) -> _Site:
        """Return a mask of activations, ``[b t, width]``."""
        mask = np.empty((len(self.rows), self.time, width), np.bool_)
        fills = [
            self._fill(mask[i], probability, layer, site, row, 0) for i, row in enumerate(self.rows)
        ]
        return _Site(mask.reshape(-1, width), fills, spec, self.group)

    def _adapter(self, adapter: LoRASpec) -> _Site:
        """Return the mask of an adapter's inputs, ``[b t, in]``."""
        spec = ShardSpec(None if is_column(adapter.module) else 1)
        site = ADAPTERS + adapter.slot
        return self._flat(self.adapter_dropout, adapter.inputs, adapter.layer, site, spec)

    def _attention(self, layer: int) -> _Site:
        """Return the attention mask of a rank's heads, ``[b n, t, t]``."""
        time, count = self.time, self.config.heads // self.group.size
        heads = range(self.group.index * count, (self.group.index + 1) * count)
        mask = np.empty((len(self.rows), len(heads), time, time), np.bool_)
        probability = self.config.dropouts.attention
        fills = [
            self._fill(mask[i, j], probability, layer, ATTENTION, row, head)
            for i, row in enumerate(self.rows)
            for j, head in enumerate(heads)
        ]
        return _Site(mask.reshape(-1, time, time), fills, ShardSpec(), self.group)

    def _fill(
        self, piece: Mask, probability: float, layer: int, site: int, row: int, head: int
    ) -> partial[None]:
        threshold = _threshold(probability)
        return partial(_fill, piece, threshold, self.seed, self.step, layer, site, row, head)


def _call_all(calls: Sequence[partial[None]]) -> None:
    for call in calls:
        call()


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
