"""Optimizer steps: loss, gradients, clip, update; whole, or in micro-batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.backend.in_place import multiply
from gpt2dsl.distributed.process_groups import (
    NO_DATA_PARALLEL,
    DataParallelGroup,
    TensorParallelGroup,
)
from gpt2dsl.layout.params import WTE, head_of
from gpt2dsl.layout.shard_spec import ShardSpec
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2, Arrays, gather_shards
from gpt2dsl.parts import Optim
from gpt2dsl.training.forward_backward import Passes
from gpt2dsl.training.gradients import GlobalGradNorm, GradientAllReduce, Gradients
from gpt2dsl.training.loss_scale import LossScale
from gpt2dsl.training.optimizers import Optimizer
from gpt2dsl.training.pipeline import Pipeline
from gpt2dsl.training.zero import Updates, ZeroOptimizer, is_split, parts, rows_of

CLIP_EPS = 1e-6
"""Added to the norm before the division, as torch does it."""


class Batch(Protocol):
    """What sums the gradients of a batch's parts."""

    def run(self, batch: Iterable[MicroBatch], scale: float, gradients: Gradients) -> float:
        """Do so; the batch's loss times the scale, as far as this rank computes it."""


class OneStage:
    """Micro-batches through the whole network, one after the other."""

    def __init__(self, network: GPT2) -> None:
        self._passes = Passes(network)

    def run(self, batch: Iterable[MicroBatch], scale: float, gradients: Gradients) -> float:
        """Sum the gradients of a batch; its loss times the scale."""
        total = 0.0
        for part in batch:
            walk = self._passes.forward(part)
            loss, dx = self._passes.loss(walk, part.labels, scale * part.weight, gradients)
            self._passes.backward(walk, dx, gradients)
            total += loss
            del walk, part, dx  # before the next micro-batch is made
        return total


class TrainStep:
    """Optimizer steps: loss, gradients, a clip by global norm, an update.

    An update is left out where the loss or the norm is no number.

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
        copies: DataParallelGroup = NO_DATA_PARALLEL,
    ) -> None:
        self.network, self.clip, self.scale = network, clip, scale
        self.micro_batches, self.copies = micro_batches, copies
        trained, stages = network.trained(), network.stages
        self.optimizer = Optimizer(parts(trained, copies), optim)
        self._updates: Updates = self.optimizer
        if copies.shards_state and copies.dp > 1:
            self._updates = ZeroOptimizer(list(trained.values()), self.optimizer, copies)
        self._batch: Batch = OneStage(network)
        if stages.pp > 1:
            self._batch = Pipeline(network, micro_batches)
        ties = head_of(network.geometry) == WTE
        self._exchange = GradientAllReduce(copies, stages, ties=ties)
        self._norm = GlobalGradNorm(network.splits, network.shard, stages)
        self.steps = self.updates = 0

    def step(self, batch: Iterable[MicroBatch], lr: float) -> tuple[float, float]:
        """Do one step.

        Args:
            batch: its micro-batches.
            lr: learning rate.

        Returns:
            The batch's loss before the step, and the norm of its gradient before the clip; one of
            both is not finite where the step was skipped.
        """
        self.steps += 1
        scale = self.scale.value if self.scale else 1.0
        share = scale / self.micro_batches / self.copies.dp
        gradients = Gradients()
        found = self._batch.run(batch, share, gradients)
        loss = self._exchange.run(gradients.sums, found) / scale
        sums = {name: gradients.sums.pop(name) for name in self.network.trained()}
        norm = self._norm.of(sums) / scale
        if not (math.isfinite(loss) and math.isfinite(norm)):
            if self.scale:
                self.scale.overflowed()
            return loss, norm
        if self.scale:
            self.scale.passed()
        self.updates += 1
        factor = min(1.0, self.clip / (norm + CLIP_EPS)) if self.clip else 1.0
        multiply(sums.values(), factor / scale)
        self._updates.update(list(sums.values()), lr, self.updates)
        return loss, norm

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return the optimizer's tensors, whole: ``m.<name>``, ``v.<name>``, ``u.<name>``.

        All ranks ask at once.
        """
        held = {value.name: value for value in self.optimizer.states()}
        names = [
            f"{kind}.{name}" for kind in self.optimizer.kinds for name in self.network.trained_names
        ]
        return {name: self._whole_state(name, held.get(name)) for name in names}

    def _whole_state(self, name: str, value: Tensor | None) -> NDArray[np.float32]:
        of = name.partition(".")[2]
        if value is not None and is_split(self.network.trained()[of].shape, self.copies):
            copies = self.copies
            rows = TensorParallelGroup(copies.dp, copies.index, copies.group)
            value = Tensor(gather_shards(value, ShardSpec(0), rows))
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
