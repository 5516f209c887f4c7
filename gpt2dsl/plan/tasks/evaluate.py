"""The evaluate task: metrics of weights on data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import REGRESSION, GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Evaluate
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.steps import PlanStep
from gpt2dsl.plan.tasks.base import TaskPlan

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import WeightsInfo

METRICS = ("perplexity", "accuracy")


class EvaluatePlan(TaskPlan):
    """Answers of evaluate."""

    task: Evaluate
    has_pipeline = True

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.needs_head = parts.classifier is not None

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        """Yield the fault of metrics that are unknown, or none of which the network has."""
        yield from super().faults(config, info)
        for metric in self.task.metrics:
            if metric not in METRICS:
                message = f"expected some of {', '.join(METRICS)}, found {metric!r}"
                yield fault(self.parts, "G2-202", "task.metrics", message)
        metrics = self._metrics(info)
        if metrics and not set(metrics) & set(_available(config)):
            names = (f"ask for {name}" for name in _available(config))
            cure = " or ".join(("leave it out", *names))
            message = f"{_without(metrics, config)}: {cure}"
            yield fault(
                self.parts,
                "G2-107",
                "task.metrics",
                message,
                "task.kind",
                compared=("model", "classifier"),
            )

    def notes(
        self, config: GPT2Config, settings: Generation, info: WeightsInfo | None
    ) -> Iterator[str]:
        available = _available(config)
        if absent := [name for name in self._metrics(info) if name not in available]:
            yield f"task.metrics: {_without(absent, config)}"

    def _metrics(self, info: WeightsInfo | None) -> Sequence[str]:
        """Return the metrics of the recipe; () where one, or the network, is unknown."""
        is_known = info is not None or not self.parts.model.has_file
        return self.task.metrics if is_known and set(self.task.metrics) <= set(METRICS) else ()

    def steps(self) -> tuple[PlanStep, ...]:
        return (
            PlanStep("tokenise", (self.task.data,), ("tokens",)),
            PlanStep("evaluate", (self.weights, self.task.data), ("result.json",)),
        )


def _available(config: GPT2Config) -> tuple[str, ...]:
    """Return the metrics of a network."""
    if not config.labels:
        return ("perplexity",)
    return () if config.problem == REGRESSION else ("accuracy",)


def _without(absent: Sequence[str], config: GPT2Config) -> str:
    """Return that a network has no such metrics."""
    kind = "a classifier" if config.labels else "a language model"
    if config.labels and config.problem == REGRESSION:
        kind = "a classifier that gives a number"
    return f"{kind} has no {' and no '.join(dict.fromkeys(absent))}"
