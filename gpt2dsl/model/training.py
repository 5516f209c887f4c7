"""One optimizer step as one graph: loss, gradients, clip, AdamW."""

from __future__ import annotations

from collections.abc import Iterable

import mindspore as ms
import mindspore.ops.operations as P
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn
from numpy.typing import NDArray

from gpt2dsl.layout.tensors import tensors
from gpt2dsl.model.classification import ClassLoss
from gpt2dsl.model.network import GPT2, TABLE, Arrays
from gpt2dsl.model.operators.head import HeadLoss
from gpt2dsl.model.operators.norm import SumOfSquares


class MeanLoss(nn.Cell):
    """Mean cross-entropy of a batch's tokens."""

    def __init__(self, network: GPT2) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.table = network.by_name[TABLE]
        self.head = HeadLoss(network.geometry.vocab, network.geometry.padded_vocab)

    def construct(self, ids: Tensor, labels: Tensor, *kept: Tensor) -> Tensor:
        """``[b, t], [b, t] → []``."""
        x = self.network(ids, *kept)
        losses, _ = self.head(x, self.table, labels.reshape((-1, 1)))
        return losses.mean()


class TrainStep(nn.Cell):
    """A step of AdamW (Loshchilov & Hutter 2019), bias-corrected, after a clip by global norm.

    Parameters and moments are changed in place. Weight decay applies to matrices and tables.

    Args:
        network: whose parameters are trained; one with classes learns those.
        clip: largest gradient norm; 0 for none.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the denominator.
        weight_decay: ``p -= lr * weight_decay * p``.
    """

    def __init__(
        self,
        network: GPT2,
        *,
        clip: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
    ) -> None:
        super().__init__(auto_prefix=False)
        weights = list(network.by_name.values())
        self.weights = ParameterTuple(weights)
        self.m = ParameterTuple(_moments("m", weights))
        self.v = ParameterTuple(_moments("v", weights))
        self.network = network
        self.decaying = tuple(i for i, t in enumerate(tensors(network.geometry)) if t.decays)
        self.loss = ClassLoss(network) if network.geometry.labels else MeanLoss(network)
        self.loss_and_gradients = ms.value_and_grad(self.loss, None, self.weights)
        self.clip, self.weight_decay = clip, weight_decay
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.sum_of_squares = SumOfSquares()
        self.adam = P.Adam()
        self.descend = P.ApplyGradientDescent()
        self.minimum = P.Minimum()
        self.sqrt = P.Sqrt()
        self.steps = 0

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
            factor = self.minimum(self.clip / (norm + 1e-6), Tensor(1.0, ms.float32))
            gradients = self.scaled(gradients, factor)
        self.decay(lr * self.weight_decay)
        self.update(gradients, lr, power1, power2)
        return loss, norm

    def scaled(self, gradients: tuple[Tensor, ...], factor: Tensor) -> tuple[Tensor, ...]:
        """Each gradient times a factor."""
        scaled: tuple[Tensor, ...] = ()
        for gradient in gradients:
            scaled = (*scaled, gradient * factor)
        return scaled

    def decay(self, rate: Tensor) -> None:
        """``p -= rate * p`` for what decays."""
        if self.weight_decay > 0:
            for i in self.decaying:
                self.descend(self.weights[i], rate, self.weights[i])

    def update(
        self, gradients: tuple[Tensor, ...], lr: Tensor, power1: Tensor, power2: Tensor
    ) -> None:
        """``m``, ``v`` and the parameters; powers are ``beta ** steps``, this one counted.

        MindSpore's Adam adds eps before the correction of ``v``, the paper and torch after it:
        ``eps sqrt(1 - power2)`` before is ``eps`` after.
        """
        eps = self.eps * self.sqrt(1.0 - power2)
        for i, gradient in enumerate(gradients):
            self.adam(
                self.weights[i], self.m[i], self.v[i], power1, power2, lr,
                self.beta1, self.beta2, eps, gradient,
            )  # fmt: skip

    def step(
        self,
        ids: NDArray[np.int32],
        labels: NDArray[np.int32],
        lr: float,
        kept: Iterable[NDArray[np.bool_]] = (),
    ) -> tuple[float, float]:
        """Do one step.

        Args:
            ids: ``[b, t]``.
            labels: ``[b, t]``; of a classifier ``[b, 2]``, as ``ClassLoss`` has it.
            lr: learning rate.
            kept: the masks of ``dropout.masks``.

        Returns:
            The batch's loss before the step, and the norm of its gradient before the clip.
        """
        self.steps += 1
        loss, norm = self(
            Tensor(ids),
            Tensor(labels),
            Tensor(lr, ms.float32),
            Tensor(self.beta1**self.steps, ms.float32),
            Tensor(self.beta2**self.steps, ms.float32),
            *map(Tensor, kept),
        )
        return float(loss.asnumpy()), float(norm.asnumpy())

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The moments: ``m.<name>`` and ``v.<name>``, in the shapes of the network."""
        return {moment.name: moment.asnumpy() for moment in (*self.m, *self.v)}

    def load_state(self, arrays: Arrays, steps: int) -> None:
        """Go on from moments that ``state`` gave after ``steps`` steps.

        Raises:
            ValueError: they are those of another network.
        """
        for moment in (*self.m, *self.v):
            if moment.name not in arrays or arrays[moment.name].shape != moment.shape:
                raise ValueError(f"{moment.name} is missing, or not {list(moment.shape)}")
            moment.set_data(Tensor(np.ascontiguousarray(arrays[moment.name])))
        self.steps = steps


def _moments(name: str, weights: list[Parameter]) -> list[Parameter]:
    return [
        Parameter(
            Tensor(np.zeros(weight.shape, np.float32)),
            name=f"{name}.{weight.name}",
            requires_grad=False,
        )
        for weight in weights
    ]
