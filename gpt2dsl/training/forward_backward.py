"""Forward and back through a network, one graph call a block, each way.

Between both a walk keeps what the backward pass needs, and lets go of it once it was used. Letters
in shapes are those of block.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn
from mindspore.ops import GradOperation
from numpy.typing import NDArray

from gpt2dsl.layout.params import WPE, WTE
from gpt2dsl.model.block import SAVED_ACTIVATIONS, Block
from gpt2dsl.model.forward import Forward, ForwardState, MicroBatch, NetworkGraph, by_kind
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.loss import Embeddings, training_loss
from gpt2dsl.model.loss_chunks import LossChunks
from gpt2dsl.training.gradients import Gradients

Tensors = tuple[Tensor, ...]


class Passes:
    """The passes of one stage: of all layers where there is one.

    Args:
        network: whose trained parameters get gradients.
    """

    def __init__(self, network: GPT2) -> None:
        self._network, self._forward = network, Forward(network)
        self._blocks = by_kind(network, _BlockBackward)
        self._trains_stem = network.is_first and WTE in network.trained()
        if self._trains_stem:
            self._stem = _StemBackward(network)
        self._lowest = 0
        if network.is_first and not self._trains_stem:
            trained = (layer for layer, back in enumerate(self._blocks) if back.trained)
            self._lowest = next(trained, len(self._blocks))
        if network.is_last:
            self._loss = _Loss(network)

    def forward(
        self, part: MicroBatch, x: Tensor | None = None, *, remembers: bool = True
    ) -> ForwardState:
        """As ``Forward.walk``."""
        return self._forward.walk(part, x, remembers=remembers, lowest=self._lowest)

    def loss(
        self, walk: ForwardState, labels: NDArray[Any], scale: float, gradients: Gradients
    ) -> tuple[float, Tensor]:
        """The loss times the scale, and its gradient for what the last block gave, ``[b t, h]``."""
        weights = [self._network.by_name[name] for name in self._loss.weights]
        if self._network.geometry.labels:
            return self._of_portion(walk.x, labels, scale, weights, gradients)
        portions = LossChunks(labels.size, self._network.shard)
        share = scale / portions.count
        total, back = 0.0, []
        for x, some in zip(portions.rows(walk.x), portions.labels(labels), strict=True):
            found, dx = self._of_portion(x, some, share, weights, gradients)
            total += found
            back.append(dx)
        return total, portions.joined_rows(back)

    def _of_portion(
        self,
        x: Tensor,
        labels: NDArray[Any],
        scale: float,
        weights: Sequence[Tensor],
        gradients: Gradients,
    ) -> tuple[float, Tensor]:
        found, dx, *more, _ = self._loss(x, Tensor(labels), Tensor(scale, ms.float32), *weights)
        gradients.add_all(self._loss.trained, more)
        return float(found.asnumpy()), dx

    def backward(self, walk: ForwardState, dx: Tensor, gradients: Gradients) -> Tensor:
        """Back through the blocks: from the gradient of their output to that of their input.

        Not further than to the lowest that anything is trained in or below.
        """
        for layer, back in reversed(list(enumerate(self._blocks))[self._lowest :]):
            x, tape, weights = walk.inputs.pop(), walk.tapes.pop(), self._network.weights(layer)
            dx, *more, _ = back(dx, x, walk.mask, *weights, *walk.kept[layer + 1], *tape)
            gradients.add_all([weights[slot].name for slot in back.trained], more)
        if self._trains_stem:
            assert walk.rows is not None
            words, positions = self._stem(dx, *walk.stem, *walk.kept[0])
            gradients.add_all([WPE], [positions])
            gradients.add_rows(WTE, self._network.by_name[WTE].shape, walk.rows, words)
        return dx


class _Loss(NetworkGraph):
    """The loss and its gradients.

    Attributes:
        weights: names of what it is given.
        trained: of these, whose gradients it gives.
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

        Gradients are those of ``x`` and of trained weights.
        """
        value, found = self.value_and_gradients(x, labels, scale, *weights)
        if not self.trained:
            return value, found, self.padding(x, 100)  # a single gradient is in no tuple
        return (value, *found, self.padding(x, 100))


class _BlockBackward(NetworkGraph):
    """A block, backward.

    Attributes:
        trained: slots of the weights whose gradients it gives.
    """

    def __init__(self, network: GPT2, layer: int) -> None:
        weights, names = network.weights(layer), network.trained()
        trained = tuple(i for i, one in enumerate(weights) if one.name in names)
        tape = SAVED_ACTIVATIONS[network.recompute]
        super().__init__(network, network.kinds[layer], tape, trained)
        self.weights, self.trained = len(weights), trained
        self.replay = _Replay(network.blocks[layer], tape)
        self.gradients = GradOperation(get_all=True, sens_param=True)

    def construct(self, dy: Tensor, x: Tensor, mask: Tensor, *rest: Tensor) -> Tensors:
        """``[b t, h]``, and what the block was given and found → gradients, padding.

        Gradients are those of ``x`` and of trained weights.
        """
        weights, more = rest[: self.weights], rest[self.weights :]
        found = self.gradients(self.replay)(x, mask, weights, more, dy)
        gradients: Tensors = ()
        for slot in self.trained:
            gradients = (*gradients, found[2][slot])
        return (found[0], *gradients, self.padding(x, 40))


class _Replay(nn.Cell):
    """A block whose tape is known.

    Dropout masks and the tape are one tuple: MindSpore 2.10 takes the next argument of a gradient
    for one that is an empty tuple.
    """

    def __init__(self, block: Block, tape: int) -> None:
        super().__init__(auto_prefix=False)
        self.block, self.tape = block, tape

    def construct(self, x: Tensor, mask: Tensor, weights: Tensors, more: Tensors) -> Tensor:
        masks = len(more) - self.tape
        y, _ = self.block(x, mask, weights, more[:masks], more[masks:])
        return y


class _StemBackward(NetworkGraph):
    """The stem, backward."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(network)
        self.stem = Embeddings(network)
        self.gradients = GradOperation(get_all=True, sens_param=True)

    def construct(
        self, dx: Tensor, words: Tensor, inside: Tensor, positions: Tensor, places: Tensor,
        *kept: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """``[b t, h]`` → of the words' rows ``[b t, h]``, of the positions ``[positions, h]``."""
        found = self.gradients(self.stem)(words, inside, positions, places, *kept, dx)
        return found[0], found[2]
