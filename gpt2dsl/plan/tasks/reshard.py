"""The reshard task: a checkpoint from one layout of ranks to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.errors import Fault, InputError
from gpt2dsl.files import cache
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Reshard
from gpt2dsl.plan.checks import fault, undivided
from gpt2dsl.plan.inputs import refused
from gpt2dsl.plan.tasks.conversion import ConversionPlan
from gpt2dsl.plan.written import Output, Written

if TYPE_CHECKING:
    from gpt2dsl.weights.files.lazy_tensor import LazyTensor
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import WeightsInfo

LAYOUT = ("dp", "mp", "pp", "optimizer_shard")
"""Keys of ``[parallel]`` that decide how files are split; others concern training only."""


class ReshardPlan(ConversionPlan):
    """Answers of reshard."""

    task: Reshard
    gives_weights = True
    hint = "; the target's layout is task.layout"

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.layout, self.saves_optimizer = self.task.layout, self.task.optimizer

    def overrides(self, *, fetch: bool) -> Overrides:
        """Return the same as for other conversions, with the layout of the source."""
        split = self.task.source_layout
        return attrs.evolve(
            super().overrides(fetch=fetch),
            strategy=self.task.source_strategy,
            split=split.grid if split else None,
            zero=bool(split and split.optimizer_shard),
        )

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        yield from super().faults(config, info)
        task, parts = self.task, self.parts
        for key, layout in {"layout": task.layout, "source_layout": task.source_layout}.items():
            if layout and (extra := [name for name in layout.changed() if name not in LAYOUT]):
                message = f"{', '.join(extra)} changes no file; {', '.join(LAYOUT)} do"
                yield fault(parts, "G2-105", f"task.{key}", message)
        source, target = (cache.expanded(name).absolute() for name in (task.source, task.target))
        if source.is_dir() and source in target.parents:
            message = "it lies in the source, which stays as it is"
            yield fault(parts, "G2-308", "task.target", message, compared=("task.source",))
        if info is None:
            return
        for key, message in undivided(task.layout, info.geometry):
            yield fault(
                parts, "G2-203", "task.layout", f"{key}: {message}", compared=("task", "model")
            )
        if info.adapter:
            message = "an adapter is small and read by every layout; convert --merge makes it whole"
            yield fault(parts, "G2-107", "task.source", message)

    def output(self, info: WeightsInfo | None, overrides: Overrides) -> Output:
        """Return the output, and the refusal of a source without optimizer state."""
        task = self.task
        if info is None or not info.tensors:  # refused, or yet to be made
            return None, ()
        if info.adapter or any(undivided(task.layout, info.geometry)):
            return None, ()  # faults() reports them
        from gpt2dsl.weights import resharding  # noqa: PLC0415  # NumPy: only for weights

        states: Mapping[str, LazyTensor] = {}
        if task.optimizer:
            try:
                states = resharding.TrainingState.of(info.path, info.geometry, overrides).states
            except InputError as error:
                return None, [
                    refused(self.parts, "task.optimizer", task.source, error, ("task", "model"))
                ]
        target = resharding.Target(ranks=task.layout.grid, zero=task.layout.optimizer_shard)
        written = Written(
            files=target.ranks.count,
            size=resharding.size(info.geometry, info.tensors, states, target),
            memory=resharding.memory(target),
        )
        return written, ()
