"""The pretrain and finetune tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.task import Finetune, Pretrain
from gpt2dsl.plan import memory as memories
from gpt2dsl.plan import training
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, resumed
from gpt2dsl.plan.memory import Memory
from gpt2dsl.plan.stages import StageSizes
from gpt2dsl.plan.steps import PlanStep
from gpt2dsl.plan.tasks.base import TaskPlan

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import WeightsInfo


class TrainPlan(TaskPlan):
    """Answers of pretrain and finetune."""

    task: Pretrain | Finetune
    gives_weights = saves_optimizer = True

    def files(self) -> list[Input]:
        return resumed(self.parts)

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        """Yield the faults of keys that need held-out data, and of an adapter's base."""
        for key in ("best", "patience"):
            if not getattr(self.parts.train, key):
                continue
            if not self.task.eval_data:
                yield fault(
                    self.parts,
                    "G2-107",
                    f"train.{key}",
                    "it needs task.eval_data",
                    compared=("task.eval_data",),
                )
            elif not self.parts.train.evaluate_every:
                yield fault(
                    self.parts,
                    "G2-107",
                    f"train.{key}",
                    "it needs train.evaluate_every",
                    compared=("train.evaluate_every",),
                )
        if self.parts.lora:
            yield from training.faults_of_base(self.parts, info)

    def notes(
        self, config: GPT2Config, settings: Generation, info: WeightsInfo | None
    ) -> Iterator[str]:
        if self.parts.lora:
            yield from training.notes_of_files(self.parts, config)

    def steps(self) -> tuple[PlanStep, ...]:
        data, eval_data = self.task.data, self.task.eval_data
        texts = tuple(filter(None, (data, eval_data)))
        steps = [PlanStep("tokenise", texts, ("tokens",))]
        if eval_data:
            steps.append(PlanStep("evaluate", (self.weights, eval_data), ("metrics.jsonl",)))
        steps.append(PlanStep("train", (self.weights, data), ("metrics.jsonl", "checkpoints")))
        if eval_data:
            steps.append(PlanStep("evaluate", ("checkpoints", eval_data), ("metrics.jsonl",)))
        if self.parts.train.export != "none":
            steps.append(PlanStep("convert", ("checkpoints",), ("hf",)))
        return (*steps, PlanStep("report", ("metrics.jsonl",), ("report.html", "result.json")))

    def memory_of_stage(self, config: GPT2Config, stage: StageSizes) -> Memory:
        return memories.of_training(self.parts, config, stage)
