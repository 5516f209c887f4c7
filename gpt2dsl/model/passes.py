"""Forward and backward through a network, one graph call for a few blocks.

Groups of blocks that are alike share two graphs, forward and backward, which are given the
parameters of their layers: what is compiled does not grow with the layers. Between both passes a
walk keeps what the backward pass needs, and lets go of it once it was used. Letters in shapes are
those of block.py.
"""

from __future__ import annotations

import itertools

import attrs
import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.ops import GradOperation
from numpy.typing import NDArray

from gpt2dsl.layout.tensors import POSITIONS, TABLE
from gpt2dsl.model.block import TAPES
from gpt2dsl.model.ends import Stem, loss_of
from gpt2dsl.model.gradients import Gradients
from gpt2dsl.model.graphs import Call
from gpt2dsl.model.network import GPT2
from gpt2dsl.model.operators.head import MASKED

Tensors = tuple[Tensor, ...]

GROUP = 1
"""Blocks of a graph: more take longer to compile, and gain nothing."""


@attrs.frozen
class MicroBatch:
    """A part of a batch.

    Attributes:
        ids: ``[b, t]``.
        labels: ``[b, t]``; of a classifier ``[b, 2]``, as ``ClassLoss`` has it.
        kept: the masks of ``dropout.masks``.
    """

    ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    kept: tuple[NDArray[np.bool_], ...] = ()


@attrs.define
class Walk:
    """A micro-batch between its passes.

    Attributes:
        x: what the last block gave, ``[b t, h]``.
        mask: what is added to scores, ``[b n, t, t]``.
        kept: dropout masks of the stem, then of each group.
        rows: of the word table, that were taken, ``[b t]``; None on a stage but the first.
        stem: what the stem was given.
        inputs: of each group that has not been gone back through.
        tapes: of the same groups.
    """

    x: Tensor
    mask: Tensor
    kept: tuple[Tensors, ...]
    rows: Tensor | None = None
    stem: Tensors = ()
    inputs: list[Tensor] = attrs.field(factory=list)
    tapes: list[Tensors] = attrs.field(factory=list)


class Passes:
    """The passes of one stage: of all layers where there is one.

    Args:
        network: whose trained parameters get gradients.
    """

    def __init__(self, network: GPT2) -> None:
        self._network = network
        graphs: dict[object, tuple[_Forward, _Backward]] = {}
        self._groups: list[tuple[_Forward, _Backward, tuple[Parameter, ...]]] = []
        for first in range(0, len(network.kinds), GROUP):
            group = range(first, min(first + GROUP, len(network.kinds)))
            kinds = tuple(network.kinds[layer] for layer in group)
            if kinds not in graphs:
                graphs[kinds] = _Forward(network, group), _Backward(network, group)
            weights = tuple(one for layer in group for one in network.weights(layer))
            self._groups.append((*graphs[kinds], weights))
        if network.is_first:
            self._stem, self._stem_back = _Stem(network), _StemBack(network)
        if network.is_last:
            self._loss = _Loss(network)
        self._gather = P.Gather()
        self._mask = Tensor(np.zeros((0, 0, 0), np.float32))

    def forward(self, part: MicroBatch, x: Tensor | None = None) -> Walk:
        """Through the blocks, with dropout if there are masks.

        Args:
            part: the micro-batch.
            x: ``[b, t, h]`` from the stage before; None on the first.
        """
        walk = self._embedded(part) if x is None else self._entered(part, x)
        for (forward, _, weights), kept in zip(self._groups, walk.kept[1:], strict=True):
            walk.inputs.append(walk.x)
            walk.x, *tapes, _ = forward(walk.x, walk.mask, *weights, *kept)
            walk.tapes.append(tuple(tapes))
        return walk

    def loss(
        self, walk: Walk, labels: NDArray[np.int32], scale: Tensor, gradients: Gradients
    ) -> tuple[Tensor, Tensor]:
        """The loss times the scale, ``[]``, and its gradient for what the last block gave."""
        weights = [self._network.by_name[name] for name in self._loss.weights]
        found, dx, *more, _ = self._loss(walk.x, Tensor(labels), scale, *weights)
        gradients.add_all(self._loss.trained, more)
        return found, dx

    def backward(self, walk: Walk, dx: Tensor, gradients: Gradients) -> Tensor:
        """Back through the blocks: from the gradient of their output to that of their input."""
        groups = list(zip(self._groups, walk.kept[1:], strict=True))
        for (_, back, weights), kept in reversed(groups):
            x, tapes = walk.inputs.pop(), walk.tapes.pop()
            dx, *more, _ = back(dx, x, walk.mask, *weights, *kept, *tapes)
            gradients.add_all([weights[slot].name for slot in back.trained], more)
        if walk.rows is not None and self._stem_back.is_trained:
            words, positions = self._stem_back(dx, *walk.stem, *walk.kept[0])
            gradients.add_all([POSITIONS], [positions])
            gradients.add_rows(TABLE, self._network.by_name[TABLE].shape, walk.rows, words)
        return dx

    def whole(self, x: Tensor) -> Tensor:
        """What crosses between stages: all rows ``[b t, h]``, where ranks have some each."""
        return self._network.all_rows(x)

    def own(self, x: Tensor) -> Tensor:
        """This rank's rows of what has crossed."""
        return self._network.own_rows(x)

    def _embedded(self, part: MicroBatch) -> Walk:
        batch, time = part.ids.shape
        embedding, positions = self._network.embedding, self._network.by_name[POSITIONS]
        local = part.ids.reshape(-1) - embedding.first
        is_inside = (local >= 0) & (local < embedding.count)
        rows = Tensor(np.where(is_inside, local, 0).astype(np.int32))  # [b t]
        words = self._gather(embedding.words, rows, 0)  # [b t, h]
        places = Tensor(np.tile(np.arange(time, dtype=np.int32), batch))
        stem = (words, Tensor(is_inside.astype(np.float32)), positions, places)
        kept = self._by_group(part)
        return Walk(self._stem(*stem, *kept[0]), self._causal(part), kept, rows, stem)

    def _entered(self, part: MicroBatch, x: Tensor) -> Walk:
        x = self.own(x.reshape((-1, x.shape[-1])))
        return Walk(x, self._causal(part), self._by_group(part))

    def _by_group(self, part: MicroBatch) -> tuple[Tensors, ...]:
        """Masks of the stem, then of each group."""
        bounds, kept = self._network.mask_bounds, tuple(map(Tensor, part.kept))
        bounds = (*bounds[:-1:GROUP], bounds[-1])
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


class _Group(nn.Cell):
    """Some blocks, one after the other."""

    def __init__(self, network: GPT2, layers: range, tape: int) -> None:
        super().__init__(auto_prefix=False)
        first = {network.kinds[layer]: network.blocks[layer] for layer in reversed(layers)}
        self.blocks = tuple(first[network.kinds[layer]] for layer in layers)
        counts = [len(network.weights(layer)) for layer in layers]
        masks = [network.mask_bounds[layer + 1] - network.mask_bounds[layer] for layer in layers]
        self.of_weights = tuple(itertools.accumulate(counts, initial=0))
        self.of_masks = tuple(itertools.accumulate(masks, initial=0))
        self.tape = tape

    def construct(
        self, x: Tensor, mask: Tensor, weights: Tensors, kept: Tensors, tapes: Tensors
    ) -> tuple[Tensor, Tensors]:
        """As ``Block``, of which each value of a tuple is those of all blocks."""
        found: Tensors = ()
        for i, block in enumerate(self.blocks):
            own = weights[self.of_weights[i] : self.of_weights[i + 1]]
            masks = kept[self.of_masks[i] : self.of_masks[i + 1]]
            known = tapes[self.tape * i : self.tape * (i + 1)]
            x, tape = block(x, mask, own, masks, known)
            found = (*found, *tape[: self.tape])
        return x, found


class _Forward(Call):
    """Some blocks forward."""

    def __init__(self, network: GPT2, layers: range) -> None:
        tape, kinds = TAPES[network.recompute], network.kinds[layers.start : layers.stop]
        super().__init__(*_depends(network), kinds, tape, is_kept=_alone(network))
        self.group = _Group(network, layers, tape)
        self.weights = self.group.of_weights[-1]

    def construct(self, x: Tensor, mask: Tensor, *rest: Tensor) -> Tensors:
        """``[b t, h], [b n, t, t]``, weights, dropout masks → ``[b t, h]``, tapes."""
        y, tapes = self.group(x, mask, rest[: self.weights], rest[self.weights :], ())
        return (y, *tapes, self.padding(x))


class _Replay(nn.Cell):
    """What some blocks give, where their tapes are known."""

    def __init__(self, group: _Group, tapes: int) -> None:
        super().__init__(auto_prefix=False)
        self.group, self.tapes = group, tapes

    def construct(self, x: Tensor, mask: Tensor, weights: Tensors, rest: Tensors) -> Tensor:
        before = len(rest) - self.tapes
        y, _ = self.group(x, mask, weights, rest[:before], rest[before:])
        return y


class _Backward(Call):
    """Some blocks backward.

    Attributes:
        trained: slots of the weights whose gradients it gives.
    """

    def __init__(self, network: GPT2, layers: range) -> None:
        tape, kinds = TAPES[network.recompute], network.kinds[layers.start : layers.stop]
        names = set(network.trained())
        weights = [one.name for layer in layers for one in network.weights(layer)]
        trained = tuple(i for i, name in enumerate(weights) if name in names)
        super().__init__(*_depends(network), kinds, tape, trained, is_kept=_alone(network))
        self.replay = _Replay(_Group(network, layers, tape), tape * len(layers))
        self.gradients = GradOperation(get_all=True, sens_param=True)
        self.weights, self.trained = len(weights), trained

    def construct(self, dy: Tensor, x: Tensor, mask: Tensor, *rest: Tensor) -> Tensors:
        """Gradient of the result, and what the blocks were given → of ``x``, of trained weights."""
        weights, more = rest[: self.weights], rest[self.weights :]
        found = self.gradients(self.replay)(x, mask, weights, more, dy)
        gradients: Tensors = ()
        for slot in self.trained:
            gradients = (*gradients, found[2][slot])
        return (found[0], *gradients, self.padding(x))


class _Stem(Call):
    """The stem forward."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(*_depends(network), is_kept=_alone(network))
        self.stem = Stem(network)

    def construct(
        self, words: Tensor, inside: Tensor, table: Tensor, places: Tensor, *kept: Tensor
    ) -> Tensor:
        """As ``Stem``."""
        return self.stem(words, inside, table, places, *kept)


class _StemBack(Call):
    """The stem backward.

    Attributes:
        is_trained: whether its tables are.
    """

    def __init__(self, network: GPT2) -> None:
        super().__init__(*_depends(network), is_kept=_alone(network))
        self.stem, self.is_trained = Stem(network), TABLE in network.trained()
        self.gradients = GradOperation(get_all=True, sens_param=True)

    def construct(
        self, dx: Tensor, words: Tensor, inside: Tensor, table: Tensor, places: Tensor,
        *kept: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """``[b t, h]`` → of the words' rows ``[b t, h]``, of the positions ``[positions, h]``."""
        found = self.gradients(self.stem)(words, inside, table, places, *kept, dx)
        return found[0], found[2]


class _Loss(Call):
    """The loss and its gradients.

    Attributes:
        weights: names of what it is given.
        trained: of these, whose gradients it gives.
    """

    def __init__(self, network: GPT2) -> None:
        loss, names = loss_of(network), network.trained()
        trained = tuple(name for name in loss.WEIGHTS if name in names)
        super().__init__(*_depends(network), type(loss), trained, is_kept=_alone(network))
        self.weights, self.trained = loss.WEIGHTS, trained
        self.slots = (0, *(3 + loss.WEIGHTS.index(name) for name in trained))
        self.loss = loss
        self.gradients = GradOperation(get_all=True, sens_param=True)

    def construct(self, x: Tensor, labels: Tensor, scale: Tensor, *weights: Tensor) -> Tensors:
        """``[b t, h]``, labels, ``[]``, weights → ``[]``, ``[b t, h]``, of trained weights."""
        value = self.loss(x, labels, scale, *weights)
        one = Tensor(1.0, ms.float32)
        found = self.gradients(self.loss)(x, labels, scale, *weights, one)
        gradients: Tensors = ()
        for slot in self.slots:
            gradients = (*gradients, found[slot])
        return (value, *gradients, self.padding(x))


def _depends(network: GPT2) -> tuple[object, ...]:
    return network.signature


def _alone(network: GPT2) -> bool:
    """Whether graphs name no group of ranks, which are a process's own."""
    return network.shard.mp == 1
