"""Forward and backward passes of a network, one graph call per block and direction.

A ``ForwardState`` keeps what the backward pass needs and frees it after use. Letters in shapes are
those of gpt2.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn
from mindspore.ops import GradOperation
from numpy.typing import NDArray

from gpt2dsl.layout.params import WPE, WTE
from gpt2dsl.model import saved_activations
from gpt2dsl.model.forward import Forward, ForwardState, MicroBatch, NetworkGraph, by_kind
from gpt2dsl.model.gpt2 import GPT2, Block
from gpt2dsl.model.loss import training_loss
from gpt2dsl.model.loss_chunks import LossChunks
from gpt2dsl.training.gradients import Gradients

Tensors = tuple[Tensor, ...]


class ForwardBackward:
    """Forward and backward passes of one pipeline stage; of all layers without a pipeline.

    Args:
        network: the network whose trained parameters get gradients.
    """

    def __init__(self, network: GPT2) -> None:
        self._network, self._forward = network, Forward(network)
        self._blocks = by_kind(network, _BlockBackward)
        self._trains_embeddings = network.pipeline_group.is_first and WTE in network.trained()
        if self._trains_embeddings:
            self._embeddings = _EmbeddingsBackward(network)
        self._lowest = 0
        if network.pipeline_group.is_first and not self._trains_embeddings:
            trained = (layer for layer, back in enumerate(self._blocks) if back.trained)
            self._lowest = next(trained, len(self._blocks))
        if network.pipeline_group.is_last:
            self._loss = _Loss(network)

    def forward(
        self, micro_batch: MicroBatch, x: Tensor | None = None, *, saves: bool = True
    ) -> ForwardState:
        """Run the forward pass, as ``Forward.run``."""
        return self._forward.run(micro_batch, x, saves=saves, lowest=self._lowest)

    def loss(
        self, state: ForwardState, labels: NDArray[Any], scale: float, gradients: Gradients
    ) -> tuple[float, Tensor]:
        """Return the scaled loss and its gradient for the last block's output, ``[b t, h]``."""
        weights = [self._network.by_name[name] for name in self._loss.weights]
        if self._network.config.labels:
            return self._chunk_loss(state.x, labels, scale, weights, gradients)
        chunks = LossChunks(labels.size, self._network.tensor_group)
        share = scale / chunks.count
        total, input_grads = 0.0, []
        for x, chunk_labels in zip(chunks.rows(state.x), chunks.labels(labels), strict=True):
            chunk_loss, dx = self._chunk_loss(x, chunk_labels, share, weights, gradients)
            total += chunk_loss
            input_grads.append(dx)
        return total, chunks.join_rows(input_grads)

    def _chunk_loss(
        self,
        x: Tensor,
        labels: NDArray[Any],
        scale: float,
        weights: Sequence[Tensor],
        gradients: Gradients,
    ) -> tuple[float, Tensor]:
        loss, dx, *weight_grads, _ = self._loss(
            x, Tensor(labels), Tensor(scale, ms.float32), *weights
        )
        gradients.add_all(self._loss.trained, weight_grads)
        return float(loss.asnumpy()), dx

    def backward(self, state: ForwardState, dx: Tensor, gradients: Gradients) -> Tensor:
        """Run the backward pass: return the blocks' input gradient from their output gradient.

        It stops at the lowest block with a trained parameter in or below it.
        """
        for layer, back in reversed(list(enumerate(self._blocks))[self._lowest :]):
            (x, saved), weights = state.saved.pop(), self._network.weights(layer)
            masks = state.dropout_masks[layer + 1]
            dx, *weight_grads, _ = back(dx, x, state.mask, *weights, *masks, *saved)
            gradients.add_all([weights[slot].name for slot in back.trained], weight_grads)
        if self._trains_embeddings:
            assert state.rows is not None
            inputs, masks = state.embedding_inputs, state.dropout_masks[0]
            words, positions = self._embeddings(dx, *inputs, *masks)
            gradients.add_all([WPE], [positions])
            gradients.add_rows(WTE, self._network.by_name[WTE].shape, state.rows, words)
        return dx


class _Loss(NetworkGraph):
    """Graph of the loss and its gradients.

    Attributes:
        weights: names of its parameter arguments.
        trained: names of those whose gradients it returns.
    """

    def __init__(self, network: GPT2) -> None:
        loss, names = training_loss(network), network.trained()
        trained = tuple(name for name in loss.names if name in names)
        super().__init__(network, type(loss).__name__, trained)
        self.loss, self.weights, self.trained = loss, loss.names, trained
        self.slots = (0, *(3 + self.weights.index(name) for name in trained))
        self.value_and_gradients = ms.value_and_grad(loss, self.slots)

    def construct(self, x: Tensor, labels: Tensor, scale: Tensor, *weights: Tensor) -> Tensors:
        """``[b t, h]``, labels, ``[]``, weights → ``[]``, gradients, padding.

        Gradients are of ``x`` and of the trained weights.
        """
        value, gradients = self.value_and_gradients(x, labels, scale, *weights)
        if not self.trained:
            return value, gradients, self.padding(x, 100)  # a single gradient is not in a tuple
        return (value, *gradients, self.padding(x, 100))


class _BlockBackward(NetworkGraph):
    """Backward graph of a block.

    Attributes:
        trained: slots of the weights whose gradients it returns.
    """

    def __init__(self, network: GPT2, layer: int) -> None:
        weights, names = network.weights(layer), network.trained()
        trained = tuple(i for i, weight in enumerate(weights) if weight.name in names)
        count = saved_activations.COUNTS[network.recompute]
        super().__init__(network, network.kinds[layer], count, trained)
        self.weights, self.trained = len(weights), trained
        self.replay = _Replay(network.blocks[layer], count)
        self.gradients = GradOperation(get_all=True, sens_param=True)

    def construct(self, dy: Tensor, x: Tensor, mask: Tensor, *rest: Tensor) -> Tensors:
        """``[b t, h]``, the block's inputs and saved activations → gradients, padding.

        Gradients are of ``x`` and of the trained weights.
        """
        weights, masks_saved = rest[: self.weights], rest[self.weights :]
        all_grads = self.gradients(self.replay)(x, mask, weights, masks_saved, dy)
        gradients: Tensors = ()
        for slot in self.trained:
            gradients = (*gradients, all_grads[2][slot])
        return (all_grads[0], *gradients, self.padding(x, 40))


class _Replay(nn.Cell):
    """Block replayed with its saved activations.

    Dropout masks and saved activations share one tuple: MindSpore 2.10 confuses an argument that is
    an empty tuple with the next one when it differentiates.
    """

    def __init__(self, block: Block, saved_count: int) -> None:
        super().__init__(auto_prefix=False)
        self.block, self.saved_count = block, saved_count

    def construct(self, x: Tensor, mask: Tensor, weights: Tensors, more: Tensors) -> Tensor:
        masks = len(more) - self.saved_count
        y, _ = self.block(x, mask, weights, more[:masks], more[masks:])
        return y


class _EmbeddingsBackward(NetworkGraph):
    """Backward graph of the embeddings."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.embeddings = network.embeddings
        self.gradients = GradOperation(get_all=True, sens_param=True)

    def construct(
        self, dx: Tensor, words: Tensor, inside: Tensor, wpe: Tensor, positions: Tensor,
        *dropout_masks: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """``[b t, h]`` → gradients of word rows ``[b t, h]``, of wpe ``[max_positions, h]``."""
        inputs = words, inside, wpe, positions, *dropout_masks
        gradients = self.gradients(self.embeddings)(*inputs, dx)
        return gradients[0], gradients[2]
