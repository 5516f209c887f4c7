"""Forward through a network, one graph call a block.

Blocks of a kind share a graph, which is given the parameters of their layer: what is compiled does
not grow with the layers. Letters in shapes are those of block.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.backend.parameterized_cell import ParameterizedCell
from gpt2dsl.kernels.lm_head import MASKED
from gpt2dsl.layout.params import WPE
from gpt2dsl.model.block import SAVED_ACTIVATIONS
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.loss import Embeddings

Tensors = tuple[Tensor, ...]
G = TypeVar("G")


@attrs.frozen
class MicroBatch:
    """A part of a batch.

    Attributes:
        ids: ``[b, t]``.
        labels: ``[b, t]``, negative where a token is not predicted; of a classifier ``[b, 2]``, as
            its loss has it.
        kept: the masks of ``dropout.masks``.
        weight: tokens of the whole batch over those of it that are predicted.
    """

    ids: NDArray[np.int32]
    labels: NDArray[Any]
    kept: tuple[NDArray[np.bool_], ...] = ()
    weight: float = 1.0


@attrs.define
class ForwardState:
    """A micro-batch on its way.

    Attributes:
        x: what the last block gave, ``[b t, h]``.
        mask: what is added to scores, ``[b n, t, t]``.
        kept: dropout masks of the stem, then of each block.
        rows: of the word table, that were taken, ``[b t]``; None on a stage but the first.
        stem: what the stem was given.
        inputs: of each block that has not been gone back through.
        tapes: of the same blocks.
    """

    x: Tensor
    mask: Tensor
    kept: tuple[Tensors, ...]
    rows: Tensor | None = None
    stem: Tensors = ()
    inputs: list[Tensor] = attrs.field(factory=list)
    tapes: list[Tensors] = attrs.field(factory=list)


class Forward:
    """The forward pass of one stage: of all layers where there is one."""

    def __init__(self, network: GPT2) -> None:
        self._network = network
        self._blocks = by_kind(network, BlockForward)
        if network.is_first:
            self._stem = StemForward(network)
        self._gather = P.Gather()
        self._mask = Tensor(np.zeros((0, 0, 0), np.float32))

    def walk(
        self,
        part: MicroBatch,
        x: Tensor | None = None,
        *,
        remembers: bool = True,
        lowest: int = 0,
    ) -> ForwardState:
        """Through the blocks, with dropout if there are masks.

        Args:
            part: the micro-batch.
            x: ``[b t, h]`` from the stage before; None on the first.
            remembers: whether inputs and tapes are kept for the way back.
            lowest: block that it leads to.
        """
        walk = self._embedded(part) if x is None else self._entered(part, x)
        for layer, forward in enumerate(self._blocks):
            weights, kept = self._network.weights(layer), walk.kept[layer + 1]
            y, *tape, _ = forward(walk.x, walk.mask, *weights, *kept)
            if remembers and layer >= lowest:
                walk.inputs.append(walk.x)
                walk.tapes.append(tuple(tape))
            walk.x = y
            del tape, y  # before the next block's
        return walk

    def _embedded(self, part: MicroBatch) -> ForwardState:
        batch, time = part.ids.shape
        embedding, positions = self._network.embedding, self._network.by_name[WPE]
        local = part.ids.reshape(-1) - embedding.first
        is_inside = (local >= 0) & (local < embedding.count)
        rows = Tensor(np.where(is_inside, local, 0).astype(np.int32))  # [b t]
        words = self._gather(embedding.words, rows, 0)  # [b t, h]
        places = Tensor(np.tile(np.arange(time, dtype=np.int32), batch))
        stem = (words, Tensor(is_inside.astype(np.float32)), positions, places)
        kept = self._by_block(part)
        return ForwardState(self._stem(*stem, *kept[0]), self._causal(part), kept, rows, stem)

    def _entered(self, part: MicroBatch, x: Tensor) -> ForwardState:
        return ForwardState(self._network.own_rows(x), self._causal(part), self._by_block(part))

    def _by_block(self, part: MicroBatch) -> tuple[Tensors, ...]:
        """Masks of the stem, then of each block."""
        bounds, kept = self._network.mask_bounds, tuple(map(Tensor, part.kept))
        some = (kept[first:last] for first, last in itertools.pairwise(bounds))
        return (kept[: bounds[0]], *some)

    def _causal(self, part: MicroBatch) -> Tensor:
        """What hides later tokens, ``[b n, t, t]``; the last one is kept.

        It is laid out whole: adding it so is three times as fast as a broadcast.
        """
        batch, time = part.ids.shape
        shape = (batch * self._network.heads, time, time)
        if self._mask.shape != shape:
            later = np.triu(np.full((time, time), MASKED, np.float32), 1)
            self._mask = Tensor(np.ascontiguousarray(np.broadcast_to(later, shape)))
        return self._mask


class NetworkGraph(ParameterizedCell):
    """A part of the network, in one direction.

    Args:
        network: of which it is one.
        depends: what fixes it besides the network.
    """

    def __init__(self, network: GPT2, *depends: object) -> None:
        # a graph with groups of ranks in it is a process's own
        super().__init__(*network.signature, *depends, is_kept=network.shard.mp == 1)


def by_kind(network: GPT2, made: Callable[[GPT2, int], G]) -> list[G]:
    """Return a graph for each block, one object for all of a kind."""
    firsts = {kind: layer for layer, kind in reversed(list(enumerate(network.kinds)))}
    graphs = {kind: made(network, layer) for kind, layer in firsts.items()}
    return [graphs[kind] for kind in network.kinds]


class BlockForward(NetworkGraph):
    """A block."""

    def __init__(self, network: GPT2, layer: int) -> None:
        tape = SAVED_ACTIVATIONS[network.recompute]
        super().__init__(network, network.kinds[layer], tape)
        self.tape, self.weights = tape, len(network.weights(layer))
        self.block = network.blocks[layer]

    def construct(self, x: Tensor, mask: Tensor, *rest: Tensor) -> Tensors:
        """``[b t, h], [b n, t, t]``, weights, dropout masks → ``[b t, h]``, tape, padding."""
        y, tape = self.block(x, mask, rest[: self.weights], rest[self.weights :], ())
        return (y, *tape[: self.tape], self.padding(x, 80))


class StemForward(NetworkGraph):
    """The stem."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.stem = Embeddings(network)

    def construct(
        self, words: Tensor, inside: Tensor, positions: Tensor, places: Tensor, *kept: Tensor
    ) -> Tensor:
        """As ``Embeddings``."""
        return self.stem(words, inside, positions, places, *kept)
