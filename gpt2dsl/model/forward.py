"""Forward pass of a network, one graph call per block.

Blocks of one kind share a graph, which takes the layer's parameters as arguments: compile time does
not grow with the number of layers. Letters in shapes are those of block.py.
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
from gpt2dsl.model import saved_activations
from gpt2dsl.model.embedding import TrainingEmbedding
from gpt2dsl.model.gpt2 import GPT2

Tensors = tuple[Tensor, ...]
G = TypeVar("G")


@attrs.frozen
class MicroBatch:
    """A micro-batch: rows of a batch that are processed together.

    Attributes:
        ids: ``[b, t]``.
        labels: ``[b, t]``, negative where a token is not predicted; for a classifier ``[b, 2]``, as
            its loss takes them.
        kept: dropout masks from ``dropout_masks.masks``.
        weight: ratio of all tokens to predicted tokens, over the whole batch.
    """

    ids: NDArray[np.int32]
    labels: NDArray[Any]
    kept: tuple[NDArray[np.bool_], ...] = ()
    weight: float = 1.0


@attrs.define
class ForwardState:
    """State of a micro-batch between its forward and backward passes.

    Attributes:
        x: output of the last block so far, ``[b t, h]``.
        mask: attention mask, added to the scores, ``[b n, t, t]``.
        kept: dropout masks of the embeddings, then of each block.
        rows: rows gathered from the word table, ``[b t]``; None except on the first stage.
        embedding_inputs: inputs of the embeddings graph.
        inputs: input of each block whose backward pass is still to come.
        saved: saved activations of the same blocks.
    """

    x: Tensor
    mask: Tensor
    kept: tuple[Tensors, ...]
    rows: Tensor | None = None
    embedding_inputs: Tensors = ()
    inputs: list[Tensor] = attrs.field(factory=list)
    saved: list[Tensors] = attrs.field(factory=list)


class Forward:
    """Forward pass of one pipeline stage; of all layers without pipeline parallelism."""

    def __init__(self, network: GPT2) -> None:
        self._network = network
        self._blocks = by_kind(network, BlockForward)
        if network.is_first:
            self._embedding = EmbeddingForward(network)
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
        """Run the blocks, with dropout if the micro-batch has masks.

        Args:
            part: the micro-batch.
            x: ``[b t, h]`` from the previous stage; None on the first.
            remembers: whether to save inputs and activations for the backward pass.
            lowest: lowest block that the backward pass reaches; only blocks from it on are saved.
        """
        state = self._embedded(part) if x is None else self._entered(part, x)
        for layer, forward in enumerate(self._blocks):
            weights, masks = self._network.weights(layer), state.kept[layer + 1]
            y, *saved, _ = forward(state.x, state.mask, *weights, *masks)
            if remembers and layer >= lowest:
                state.inputs.append(state.x)
                state.saved.append(tuple(saved))
            state.x = y
            del saved, y  # free them before the next block runs
        return state

    def _embedded(self, part: MicroBatch) -> ForwardState:
        batch, time = part.ids.shape
        embedding, positions = self._network.embedding, self._network.by_name[WPE]
        local = part.ids.reshape(-1) - embedding.first
        is_inside = (local >= 0) & (local < embedding.count)
        rows = Tensor(np.where(is_inside, local, 0).astype(np.int32))  # [b t]
        words = self._gather(embedding.words, rows, 0)  # [b t, h]
        places = Tensor(np.tile(np.arange(time, dtype=np.int32), batch))
        embedding_inputs = (words, Tensor(is_inside.astype(np.float32)), positions, places)
        masks = self._by_block(part)
        return ForwardState(
            self._embedding(*embedding_inputs, *masks[0]),
            self._causal(part),
            masks,
            rows,
            embedding_inputs,
        )

    def _entered(self, part: MicroBatch, x: Tensor) -> ForwardState:
        return ForwardState(self._network.own_rows(x), self._causal(part), self._by_block(part))

    def _by_block(self, part: MicroBatch) -> tuple[Tensors, ...]:
        """Return the dropout masks grouped by embeddings, then by block."""
        bounds, masks = self._network.mask_bounds, tuple(map(Tensor, part.kept))
        block_masks = (masks[first:last] for first, last in itertools.pairwise(bounds))
        return (masks[: bounds[0]], *block_masks)

    def _causal(self, part: MicroBatch) -> Tensor:
        """Return the causal mask, ``[b n, t, t]``; the last one is cached.

        The mask is materialised: adding it is three times as fast as broadcasting.
        """
        batch, time = part.ids.shape
        shape = (batch * self._network.heads, time, time)
        if self._mask.shape != shape:
            later = np.triu(np.full((time, time), MASKED, np.float32), 1)
            self._mask = Tensor(np.ascontiguousarray(np.broadcast_to(later, shape)))
        return self._mask


class NetworkGraph(ParameterizedCell):
    """Graph of one part of the network, forward or backward.

    Args:
        network: the network.
        depends: all else that determines the graph.
    """

    def __init__(self, network: GPT2, *depends: object) -> None:
        # graphs that name communication groups can't be reused by another process
        super().__init__(*network.signature, *depends, is_kept=network.shard.mp == 1)


def by_kind(network: GPT2, made: Callable[[GPT2, int], G]) -> list[G]:
    """Return one graph per block; blocks of one kind share the object."""
    firsts = {kind: layer for layer, kind in reversed(list(enumerate(network.kinds)))}
    graphs = {kind: made(network, layer) for kind, layer in firsts.items()}
    return [graphs[kind] for kind in network.kinds]


class BlockForward(NetworkGraph):
    """Forward graph of a block."""

    def __init__(self, network: GPT2, layer: int) -> None:
        count = saved_activations.COUNTS[network.recompute]
        super().__init__(network, network.kinds[layer], count)
        self.saved_count, self.weights = count, len(network.weights(layer))
        self.block = network.blocks[layer]

    def construct(self, x: Tensor, mask: Tensor, *rest: Tensor) -> Tensors:
        """Input, mask, weights, dropout masks → ``[b t, h]``, saved activations, padding."""
        y, saved = self.block(x, mask, rest[: self.weights], rest[self.weights :], ())
        return (y, *saved[: self.saved_count], self.padding(x, 80))


class EmbeddingForward(NetworkGraph):
    """Forward graph of the embeddings."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.embedding = TrainingEmbedding(network.embedding, network.geometry.dropouts.embedding)

    def construct(
        self, words: Tensor, inside: Tensor, positions: Tensor, places: Tensor, *kept: Tensor
    ) -> Tensor:
        """Return the first block's input, as ``TrainingEmbedding`` does."""
        return self.embedding(words, inside, positions, places, *kept)
