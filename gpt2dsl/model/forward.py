"""Forward pass of training and evaluation, one graph call per block.

Blocks of one kind share a graph, which takes the layer's parameters as arguments: compile time does
not grow with the number of layers. Letters in shapes are those of gpt2.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import attrs
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.backend.parameterized_cell import ParameterizedCell
from gpt2dsl.model import saved_activations
from gpt2dsl.model.gpt2 import GPT2, causal_mask

Tensors = tuple[Tensor, ...]
G = TypeVar("G")


@attrs.frozen
class MicroBatch:
    """A micro-batch: rows of a batch that are processed together.

    Attributes:
        ids: ``[b, t]``.
        labels: ``[b, t]``, negative where a token is not predicted; for a classifier ``[b, 2]``, as
            its loss takes them.
        dropout_masks: result of ``dropout_masks.masks``.
        weight: ratio of all tokens to predicted tokens, over the whole batch.
    """

    ids: NDArray[np.int32]
    labels: NDArray[Any]
    dropout_masks: tuple[NDArray[np.bool_], ...] = ()
    weight: float = 1.0


@attrs.define
class ForwardState:
    """State of a micro-batch between its forward and backward passes.

    Attributes:
        mask: attention mask, added to the scores, ``[b n, t, t]``.
        dropout_masks: those of the embeddings, then of each block.
        x: output of the last block, ``[b t, h]``.
        rows: rows gathered from the word table, ``[b t]``; None except on the first stage.
        embedding_inputs: inputs of the embeddings graph.
        saved: input and saved activations of each block whose backward pass is still to come.
    """

    mask: Tensor
    dropout_masks: tuple[Tensors, ...]
    x: Tensor = None
    rows: Tensor | None = None
    embedding_inputs: Tensors = ()
    saved: list[tuple[Tensor, Tensors]] = attrs.field(factory=list)


class Forward:
    """Forward pass of one pipeline stage; of all layers without pipeline parallelism."""

    def __init__(self, network: GPT2) -> None:
        self._network = network
        self._graphs = by_kind(network, BlockForward)
        if network.pipeline_group.is_first:
            self._embed = EmbeddingsForward(network)
        self._mask = Tensor(np.zeros((0, 0, 0), np.float32))

    def run(
        self,
        micro_batch: MicroBatch,
        x: Tensor | None = None,
        *,
        saves: bool = True,
        lowest: int = 0,
    ) -> ForwardState:
        """Run the blocks, with dropout if the micro-batch has masks.

        Args:
            micro_batch: the micro-batch.
            x: ``[b t, h]`` from the previous stage; None on the first.
            saves: whether to save inputs and activations for the backward pass.
            lowest: lowest block that the backward pass reaches; only blocks from it on are saved.
        """
        state = ForwardState(self._causal_mask(*micro_batch.ids.shape), self._masks(micro_batch))
        first_saved = lowest if saves else len(self._graphs)
        blocks = [
            partial(_run_block, graph, masks, saves=layer >= first_saved)
            for layer, (graph, masks) in enumerate(
                zip(self._graphs, state.dropout_masks[1:], strict=True)
            )
        ]
        state.x, saved = self._network.run_blocks(
            blocks, self._block_input(micro_batch.ids, x, state), state.mask
        )
        state.saved = list(saved[first_saved:])
        return state

    def _block_input(self, ids: NDArray[np.int32], x: Tensor | None, state: ForwardState) -> Tensor:
        """Return the first block's input.

        Words are looked up before the graph: its gradients are those of the rows, not of the table.
        """
        network, (batch, time) = self._network, ids.shape
        if x is not None:
            return network.scatter_rows(x)
        rows, inside = network.embeddings.local_rows(ids)
        state.rows = Tensor(rows.astype(np.int32))  # [b t]
        words = network.embeddings.gather(network.wte, state.rows, 0)  # [b t, h]
        positions = Tensor(np.tile(np.arange(time, dtype=np.int32), batch))
        inside = Tensor(inside.astype(np.float32))
        state.embedding_inputs = (words, inside, network.wpe, positions)
        return self._embed(*state.embedding_inputs, *state.dropout_masks[0])

    def _masks(self, micro_batch: MicroBatch) -> tuple[Tensors, ...]:
        """Return the dropout masks of the embeddings, then of each block."""
        bounds, masks = self._network.mask_bounds, tuple(map(Tensor, micro_batch.dropout_masks))
        return tuple(masks[first:last] for first, last in itertools.pairwise((0, *bounds)))

    def _causal_mask(self, batch: int, time: int) -> Tensor:
        """Return the materialised mask, ``[b n, t, t]``; the last one is cached."""
        shape = (batch * self._network.heads, time, time)
        if self._mask.shape != shape:
            order = np.arange(time)
            mask = np.broadcast_to(causal_mask(order[:, None], order), shape)
            self._mask = Tensor(np.ascontiguousarray(mask))
        return self._mask


class NetworkGraph(ParameterizedCell):
    """Graph of one part of the network, forward or backward.

    Args:
        network: the network.
        depends: all else that determines the graph.
    """

    def __init__(self, network: GPT2, *depends: object) -> None:
        # graphs that name communication groups can't be reused by another process
        super().__init__(*network.signature, *depends, is_kept=network.tensor_group.size == 1)


def by_kind(network: GPT2, create: Callable[[GPT2, int], G]) -> list[G]:
    """Return one graph per block; blocks of one kind share the object."""
    firsts = {kind: layer for layer, kind in reversed(list(enumerate(network.kinds)))}
    graphs = {kind: create(network, layer) for kind, layer in firsts.items()}
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


def _run_block(
    graph: BlockForward, masks: Tensors, x: Tensor, mask: Tensor, weights: Tensors, *, saves: bool
) -> tuple[Tensor, tuple[Tensor, Tensors] | None]:
    """Call a block's graph; return its output, and its input and saved activations if wanted."""
    y, *saved, _ = graph(x, mask, *weights, *masks)
    return y, (x, tuple(saved)) if saves else None


class EmbeddingsForward(NetworkGraph):
    """Forward graph of the embeddings."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.embeddings = network.embeddings

    def construct(
        self, words: Tensor, inside: Tensor, wpe: Tensor, positions: Tensor, *dropout_masks: Tensor
    ) -> Tensor:
        """Return the first block's input, as ``Embeddings`` does."""
        return self.embeddings(words, inside, wpe, positions, *dropout_masks)
