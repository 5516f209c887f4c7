"""Optimizer steps: loss, gradients, clip, update; whole, or in micro-batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs
import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.layout.split import Split
from gpt2dsl.layout.tensors import TABLE
from gpt2dsl.model.accumulation import (
    Apply,
    Exchange,
    MicroBatches,
    Norm,
    ShardedApply,
    Sums,
    is_split,
    parts,
    rows_of,
    scaled,
)
from gpt2dsl.model.classification import ClassLoss
from gpt2dsl.model.graphs import Graph
from gpt2dsl.model.loss_scale import LossScale
from gpt2dsl.model.network import GPT2, Arrays, joined
from gpt2dsl.model.operators.head import head_loss
from gpt2dsl.model.operators.norm import SumOfSquares
from gpt2dsl.model.optimizers import Optimizer, optimizer
from gpt2dsl.model.pipeline import Pipeline
from gpt2dsl.model.shard import ALONE, Copies, Shard
from gpt2dsl.parts import Optim

CLIP_EPS = 1e-6
"""Added to the norm before the division, as torch does it."""


class MeanLoss(nn.Cell):
    """Mean cross-entropy of a batch's tokens."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.table = network.by_name[TABLE]
        self.head = head_loss(network.geometry, network.precision, network.shard)

    def construct(self, ids: Tensor, labels: Tensor, *kept: Tensor) -> Tensor:
        """``[b, t], [b, t] → []``."""
        x = self.network(ids, *kept)
        losses, _ = self.head(x, self.table, labels.reshape((-1, 1)))
        return losses.mean()


class Fused(Graph):
    """A step as one graph: loss, gradients, norm, clip, update.

    Args:
        objective: the loss.
        optimizer: of its parameters.
        clip: largest gradient norm; 0 for none.
        depends: what fixes the objective and the optimizer.
    """

    def __init__(
        self, objective: nn.Cell, optimizer: Optimizer, clip: float, *depends: object
    ) -> None:
        super().__init__(type(objective).__name__, clip, *depends)
        self.optimizer = optimizer
        # a graph that is taken from the disk gets the parameters of the cell's own tree: of
        # others, as a frozen base would be, it would read memory that nobody wrote
        self.objective = objective
        self.loss_and_gradients = ms.value_and_grad(objective, None, optimizer.weights)
        self.clip = clip
        self.sum_of_squares = SumOfSquares()
        self.minimum = P.Minimum()
        self.sqrt = P.Sqrt()

    def construct(
        self,
        ids: Tensor,
        labels: Tensor,
        lr: Tensor,
        power1: Tensor,
        power2: Tensor,
        *kept: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """``[b, t], [b, t], [], [], [] → loss [], gradient norm []``."""
        loss, gradients = self.loss_and_gradients(ids, labels, *kept)
        norm = self.sqrt(self.sum_of_squares(gradients))
        if self.clip > 0:
            factor = self.minimum(self.clip / (norm + CLIP_EPS), Tensor(1.0, ms.float32))
            gradients = scaled(gradients, factor)
        self.optimizer(gradients, lr, power1, power2)
        return loss, norm


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

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the graphs take."""
        return Tensor(self.ids), Tensor(self.labels), *map(Tensor, self.kept)


class Passes(Protocol):
    """What sums the gradients of a batch's parts."""

    def run(self, batch: Iterable[MicroBatch], scale: Tensor) -> float:
        """Do so; the batch's loss times the scale, as far as this rank computes it."""


class TrainStep:
    """Optimizer steps: loss, gradients, a clip by global norm, an update.

    One micro-batch on one rank without a loss scale is one graph; else each micro-batch is a
    graph, and the update another, which is left out where the gradients overflowed.

    Args:
        network: whose parameters are trained, its adapters alone where it has some.
        optim: the optimizer.
        clip: largest gradient norm; 0 for none.
        scale: of the loss, None where there is none.
        micro_batches: parts that a rank's rows come in, all of one size.
        copies: the ranks that compute the other rows of a batch.
    """

    def __init__(
        self,
        network: GPT2,
        optim: Optim,
        *,
        clip: float = 1.0,
        scale: LossScale | None = None,
        micro_batches: int = 1,
        copies: Copies = ALONE,
    ) -> None:
        self.network, self.clip, self.scale = network, clip, scale
        self.micro_batches, self.copies = micro_batches, copies
        trained = network.trained()
        self.optimizer = optimizer(parts(trained, copies), optim)
        self._whole: Fused | None = None
        ranks = copies.dp * network.shard.mp * network.stages.pp
        if scale is None and micro_batches == ranks == 1:
            fixed = optim.evolve(lr=1.0)  # the rate is an input of the graph
            self._whole = Fused(self._objective(), self.optimizer, clip, network.signature, fixed)
        else:
            self._build(Sums(trained))
        self.steps = self.updates = 0

    def _objective(self) -> nn.Cell:
        network = self.network
        return ClassLoss(network) if network.geometry.labels else MeanLoss(network)

    def _build(self, sums: Sums) -> None:
        """The graphs of a step in parts."""
        network, copies, stages = self.network, self.copies, self.network.stages
        objective = self._objective() if stages.is_last else None
        self._sums = sums
        if stages.pp > 1:
            self._passes: Passes = Pipeline(network, objective, sums, self.micro_batches)
        else:
            assert objective is not None
            self._passes = MicroBatches(objective, sums)
        self._exchange = Exchange(sums, copies, stages)
        self._norm = Norm(sums, network.splits, network.shard, stages)
        self._apply: nn.Cell = Apply(sums, self.optimizer)
        if copies.shards_state and copies.dp > 1:
            self._apply = ShardedApply(sums, self.optimizer, copies)

    def step(self, batch: Iterable[MicroBatch], lr: float) -> tuple[float, float]:
        """Do one step.

        Args:
            batch: its micro-batches.
            lr: learning rate.

        Returns:
            The batch's loss before the step, and the norm of its gradient before the clip; it is
            not finite where the step was skipped, or spoilt the parameters if there is no scale.
        """
        self.steps += 1
        if self._whole:
            self.updates += 1
            (part,) = batch
            ids, labels, *kept = part.tensors
            loss, norm = self._whole(ids, labels, *self._rates(lr), *kept)
            return _number(loss), _number(norm)
        return self._in_parts(batch, lr)

    def _in_parts(self, batch: Iterable[MicroBatch], lr: float) -> tuple[float, float]:
        scale = self.scale.value if self.scale else 1.0
        share = Tensor(scale / self.micro_batches / self.copies.dp, ms.float32)
        total = self._exchange.run(self._passes.run(batch, share))
        loss, norm = total / scale, _number(self._norm()) / scale
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._sums.forget()
            if self.scale:
                self.scale.overflowed()
            return loss, norm
        if self.scale:
            self.scale.passed()
        self.updates += 1
        factor = min(1.0, self.clip / (norm + CLIP_EPS)) if self.clip else 1.0
        self._apply(Tensor(factor / scale, ms.float32), *self._rates(lr))
        return loss, norm

    def _rates(self, lr: float) -> tuple[Tensor, ...]:
        rates = (lr, *self.optimizer.powers(self.updates))
        return tuple(Tensor(rate, ms.float32) for rate in rates)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The optimizer's tensors, whole: ``m.<name>``, ``v.<name>``, ``u.<name>``.

        All ranks ask at once.
        """
        held = {value.name: value for value in self.optimizer.states()}
        names = [
            f"{kind}.{name}"
            for kind in self.optimizer.STATES
            for name in self.network.trained_names
        ]
        return {name: self._whole_state(name, held.get(name)) for name in names}

    def _whole_state(self, name: str, value: Tensor | None) -> NDArray[np.float32]:
        of = name.partition(".")[2]
        if value is not None and is_split(self.network.trained()[of].shape, self.copies):
            copies = self.copies
            rows = Shard(copies.dp, copies.index, copies.group)
            value = Tensor(joined(value, Split(0), rows))
        return self.network.whole(of, value)

    def _state_part(self, name: str, array: NDArray[np.float32]) -> Tensor:
        part = self.network.part(name, array)
        if is_split(part.shape, self.copies):
            part = Tensor(rows_of(part.asnumpy(), self.copies))
        return part

    def weights_changed(self) -> None:
        """To be called when the network got other values: parts of them may be held twice."""
        for part, weight in zip(
            self.optimizer.weights, self.network.trained().values(), strict=True
        ):
            if part is not weight:
                part.set_data(Tensor(rows_of(weight.asnumpy(), self.copies)))

    def progress(self) -> dict[str, Any]:
        """Steps, updates and the loss scale, as JSON has them."""
        scale = attrs.asdict(self.scale) if self.scale else None
        return {"step": self.steps, "updates": self.updates, "loss_scale": scale}

    def load_state(self, arrays: Arrays, progress: Mapping[str, Any]) -> None:
        """Go on from what ``state`` and ``progress`` gave.

        Raises:
            ValueError: they are those of another network, optimizer or precision.
        """
        for value in self.optimizer.states():
            name = value.name.partition(".")[2]
            if value.name not in arrays:
                raise ValueError(f"{value.name} is missing")
            part = self._state_part(name, arrays[value.name])
            if part.shape != value.shape:
                raise ValueError(f"{value.name} is not of this network's shape")
            value.set_data(part)
        self.weights_changed()
        scale = progress.get("loss_scale")
        if (scale is None) is not (self.scale is None):
            raise ValueError("one of both has a loss scale")
        if scale:
            self.scale = LossScale(**scale)
        self.steps = int(progress["step"])
        self.updates = int(progress["updates"])


def _number(value: Tensor) -> float:
    return float(value.asnumpy())
