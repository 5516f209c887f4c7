"""Optimizer steps: loss, gradients, clip, update; whole, or in micro-batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.model.classification import ClassLoss
from gpt2dsl.model.loss_scale import LossScale
from gpt2dsl.model.network import GPT2, TABLE, Arrays
from gpt2dsl.model.operators.head import HeadLoss
from gpt2dsl.model.operators.norm import SumOfSquares
from gpt2dsl.model.optimizers import Optimizer, optimizer
from gpt2dsl.parts import Optim

CLIP_EPS = 1e-6
"""Added to the norm before the division, as torch does it."""


class MeanLoss(nn.Cell):
    """Mean cross-entropy of a batch's tokens."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.table = network.by_name[TABLE]
        geometry = network.geometry
        self.head = HeadLoss(geometry.vocab, geometry.padded_vocab, network.precision)

    def construct(self, ids: Tensor, labels: Tensor, *kept: Tensor) -> Tensor:
        """``[b, t], [b, t] → []``."""
        x = self.network(ids, *kept)
        losses, _ = self.head(x, self.table, labels.reshape((-1, 1)))
        return losses.mean()


class Fused(nn.Cell):
    """A step as one graph: loss, gradients, norm, clip, update."""

    def __init__(self, objective: nn.Cell, optimizer: Optimizer, clip: float) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
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


class ScaledLoss(nn.Cell):
    """A loss times a scale, which its gradients get."""

    def __init__(self, objective: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.objective = objective

    def construct(self, scale: Tensor, ids: Tensor, labels: Tensor, *kept: Tensor) -> Tensor:
        """``[], [b, t], [b, t] → []``."""
        return self.objective(ids, labels, *kept) * scale


class Accumulate(nn.Cell):
    """A micro-batch: its gradients are added to sums."""

    def __init__(self, objective: nn.Cell, optimizer: Optimizer) -> None:
        super().__init__(auto_prefix=False)
        self.loss_and_gradients = ms.value_and_grad(ScaledLoss(objective), None, optimizer.weights)
        self.sums = ParameterTuple(
            [
                Parameter(
                    Tensor(np.zeros(weight.shape, np.float32)),
                    name=f"sum.{weight.name}",
                    requires_grad=False,
                )
                for weight in optimizer.weights
            ]
        )
        self.add = P.AssignAdd()

    def construct(self, scale: Tensor, ids: Tensor, labels: Tensor, *kept: Tensor) -> Tensor:
        """``[], [b, t], [b, t] → loss times scale []``."""
        loss, gradients = self.loss_and_gradients(scale, ids, labels, *kept)
        for i, gradient in enumerate(gradients):
            self.add(self.sums[i], gradient)
        return loss

    def forget(self) -> None:
        """Begin anew."""
        for total in self.sums:
            total.set_data(Tensor(np.zeros(total.shape, np.float32)))


class Norm(nn.Cell):
    """The norm of the sums."""

    def __init__(self, sums: ParameterTuple) -> None:
        super().__init__(auto_prefix=False)
        self.sums = sums
        self.sum_of_squares = SumOfSquares()
        self.sqrt = P.Sqrt()

    def construct(self) -> Tensor:
        """``→ []``."""
        return self.sqrt(self.sum_of_squares(self.sums))


class Apply(nn.Cell):
    """An update from the sums, which begin anew."""

    def __init__(self, sums: ParameterTuple, optimizer: Optimizer) -> None:
        super().__init__(auto_prefix=False)
        self.sums, self.optimizer = sums, optimizer
        self.subtract = P.AssignSub()

    def construct(self, factor: Tensor, lr: Tensor, power1: Tensor, power2: Tensor) -> Tensor:
        """``[], [], [], [] → []``."""
        self.optimizer(scaled(self.sums, factor), lr, power1, power2)
        for total in self.sums:
            self.subtract(total, total)
        return factor


def scaled(gradients: tuple[Tensor, ...], factor: Tensor) -> tuple[Tensor, ...]:
    """Each gradient times a factor."""
    found: tuple[Tensor, ...] = ()
    for gradient in gradients:
        found = (*found, gradient * factor)
    return found


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


class TrainStep:
    """Optimizer steps: loss, gradients, a clip by global norm, an update.

    One micro-batch without a loss scale is one graph; else each micro-batch is a graph, and the
    update another, which is left out where the gradients overflowed.

    Args:
        network: whose parameters are trained, its adapters alone where it has some.
        optim: the optimizer.
        clip: largest gradient norm; 0 for none.
        scale: of the loss, None where there is none.
        micro_batches: parts that a batch comes in, all of one size.
    """

    def __init__(
        self,
        network: GPT2,
        optim: Optim,
        *,
        clip: float = 1.0,
        scale: LossScale | None = None,
        micro_batches: int = 1,
    ) -> None:
        self.network, self.clip, self.scale = network, clip, scale
        self.micro_batches = micro_batches
        objective = ClassLoss(network) if network.geometry.labels else MeanLoss(network)
        self.optimizer = optimizer(network.trained(), optim)
        self._whole: Fused | None = None
        if scale is None and micro_batches == 1:
            self._whole = Fused(objective, self.optimizer, clip)
        else:
            self._part = Accumulate(objective, self.optimizer)
            self._norm = Norm(self._part.sums)
            self._apply = Apply(self._part.sums, self.optimizer)
        self.steps = self.updates = 0

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
        share = Tensor(scale / self.micro_batches, ms.float32)
        losses = [_number(self._part(share, *part.tensors)) for part in batch]
        loss, norm = sum(losses) / scale, _number(self._norm()) / scale
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._part.forget()
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
        """The optimizer's tensors: ``m.<name>``, ``v.<name>``, ``u.<name>``."""
        return {value.name: value.asnumpy() for value in self.optimizer.states()}

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
            if value.name not in arrays or arrays[value.name].shape != value.shape:
                raise ValueError(f"{value.name} is missing, or not {list(value.shape)}")
            value.set_data(Tensor(np.ascontiguousarray(arrays[value.name])))
        scale = progress.get("loss_scale")
        if (scale is None) is not (self.scale is None):
            raise ValueError("one of both has a loss scale")
        if scale:
            self.scale = LossScale(**scale)
        self.steps = int(progress["step"])
        self.updates = int(progress["updates"])


def _number(value: Tensor) -> float:
    return float(value.asnumpy())
