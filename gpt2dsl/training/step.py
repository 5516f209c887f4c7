"""Training step: loss, gradients, clipping and update, over one or several micro-batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray

from gpt2dsl.backend.in_place import multiply
from gpt2dsl.distributed.process_groups import NO_DATA_PARALLEL, ProcessGroup
from gpt2dsl.layout.optimizer import OptimizerConfig
from gpt2dsl.layout.params import WTE, head_of
from gpt2dsl.layout.shard_spec import ShardSpec
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.model.parameters import Sliceable, Sources, gather_shards
from gpt2dsl.training.forward_backward import ForwardBackward
from gpt2dsl.training.gradients import GlobalGradNorm, GradientAllReduce, Gradients
from gpt2dsl.training.loss_scale import LossScale
from gpt2dsl.training.optimizers import Optimizer
from gpt2dsl.training.pipeline import Pipeline
from gpt2dsl.training.zero import Updates, ZeroOptimizer, is_split, local_shards, rows_of

CLIP_EPS = 1e-6
"""Added to the norm before dividing, as in torch."""


class Batch(Protocol):
    """Interface of gradient accumulation over a batch's micro-batches."""

    def run(self, batch: Iterable[MicroBatch], scale: float, gradients: Gradients) -> float:
        """Accumulate the gradients; return this rank's share of the scaled loss."""


class OneStage:
    """Gradient accumulation through the whole network, without a pipeline."""

    def __init__(self, network: GPT2) -> None:
        self._passes = ForwardBackward(network)

    def run(self, batch: Iterable[MicroBatch], scale: float, gradients: Gradients) -> float:
        """Accumulate a batch's gradients; return its scaled loss."""
        total = 0.0
        for micro in batch:
            state = self._passes.forward(micro)
            loss, dx = self._passes.loss(state, micro.labels, scale * micro.weight, gradients)
            self._passes.backward(state, dx, gradients)
            total += loss
            del state, micro, dx  # free them before the next micro-batch
        return total


class TrainStep:
    """Training step: loss, gradients, clipping by global norm, optimizer update.

    The update is skipped if the loss or the norm is not finite.

    Args:
        network: the network to train; only its adapters if it has some.
        optimizer: settings of the optimizer.
        clip: maximum gradient norm; 0 for no clipping.
        scale: dynamic loss scale, or None.
        micro_batches: number of equal micro-batches of a rank's rows.
        data_group: the data parallel group.
        shards_optimizer: whether each replica holds a shard of the optimizer state (ZeRO-1).
    """

    def __init__(
        self,
        network: GPT2,
        optimizer: OptimizerConfig,
        *,
        clip: float = 1.0,
        scale: LossScale | None = None,
        micro_batches: int = 1,
        data_group: ProcessGroup = NO_DATA_PARALLEL,
        shards_optimizer: bool = False,
    ) -> None:
        self.network, self.clip, self.scale = network, clip, scale
        self.micro_batches, self.replicas = micro_batches, data_group.size
        self._zero_group = data_group if shards_optimizer else NO_DATA_PARALLEL
        trained, pipeline_group = network.trained(), network.pipeline_group
        self.optimizer = Optimizer(local_shards(trained, self._zero_group), optimizer)
        self._updates: Updates = self.optimizer
        if self._zero_group.size > 1:
            parameters = list(trained.values())
            self._updates = ZeroOptimizer(parameters, self.optimizer, self._zero_group)
        self._batch: Batch = OneStage(network)
        if pipeline_group.size > 1:
            self._batch = Pipeline(network, micro_batches)
        ties = head_of(network.config) == WTE
        self._all_reduce = GradientAllReduce(data_group, pipeline_group, ties=ties)
        self._norm = GlobalGradNorm(network.shard_specs, network.tensor_group, pipeline_group)
        self.steps = self.updates = 0

    def step(self, batch: Iterable[MicroBatch], lr: float) -> tuple[float, float]:
        """Run one training step.

        Args:
            batch: the step's micro-batches.
            lr: learning rate.

        Returns:
            The batch's loss before the update and its gradient norm before clipping; one of them is
            not finite if the update was skipped.
        """
        self.steps += 1
        scale = self.scale.value if self.scale else 1.0
        share = scale / self.micro_batches / self.replicas
        gradients = Gradients()
        local_loss = self._batch.run(batch, share, gradients)
        loss = self._all_reduce.run(gradients.sums, local_loss) / scale
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

    def local_state(self) -> dict[str, NDArray[np.float32]]:
        """Return this rank's optimizer state by name, as views of the optimizer's memory."""
        return {value.name: value.asnumpy() for value in self.optimizer.states()}

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Gather the optimizer state from all ranks (collective).

        Names are ``m.<name>``, ``v.<name>``, ``u.<name>``.
        """
        states = {value.name: value for value in self.optimizer.states()}
        names = [
            f"{kind}.{name}" for kind in self.optimizer.kinds for name in self.network.trained_names
        ]
        return {name: self._whole_state(name, states.get(name)) for name in names}

    def _whole_state(self, name: str, value: Tensor | None) -> NDArray[np.float32]:
        parameter = name.partition(".")[2]
        group = self._zero_group
        if value is not None and is_split(
            parameter, self.network.trained()[parameter].shape, group
        ):
            value = Tensor(gather_shards(value, ShardSpec(0), group))
        return self.network.gather(parameter, value)

    def _read_state(self, name: str, source: Sliceable) -> NDArray[np.float32]:
        """Read this replica's state of a parameter: with ZeRO, its rows."""
        shape, group, rows = self.network.trained()[name].shape, self._zero_group, None
        if is_split(name, shape, group):
            count = shape[0] // group.size
            rows = range(group.index * count, (group.index + 1) * count)
        return self.network.read_shard(name, source, rows)

    def weights_changed(self) -> None:
        """Refresh the optimizer's shards after new values were loaded into the network."""
        for shard, weight in zip(
            self.optimizer.weights, self.network.trained().values(), strict=True
        ):
            if shard is not weight:
                shard.set_data(Tensor(rows_of(weight.asnumpy(), self._zero_group)))

    def progress(self) -> dict[str, Any]:
        """Return steps, updates and loss scale as a JSON-compatible dict."""
        scale = attrs.asdict(self.scale) if self.scale else None
        return {"step": self.steps, "updates": self.updates, "loss_scale": scale}

    def load_state(self, sources: Sources, progress: Mapping[str, Any]) -> None:
        """Restore what ``state`` and ``progress`` returned; of the state, read this rank's part.

        Raises:
            ValueError: they belong to another network, optimizer or precision.
        """
        for value in self.optimizer.states():
            name = value.name.partition(".")[2]
            if value.name not in sources:
                raise ValueError(f"{value.name} is missing")
            source = sources[value.name]
            if source.shape != self.network.whole_shape(name):
                raise ValueError(f"{value.name} is not of this network's shape")
            value.set_data(Tensor.from_numpy(self._read_state(name, source)))
        self.weights_changed()
        scale = progress.get("loss_scale")
        if (scale is None) is not (self.scale is None):
            raise ValueError("one of both has a loss scale")
        if scale:
            self.scale = LossScale(**scale)
        self.steps = int(progress["step"])
        self.updates = int(progress["updates"])
