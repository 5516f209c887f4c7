"""The generate task: continuations of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.task import Generate
from gpt2dsl.plan import generation
from gpt2dsl.plan import memory as memories
from gpt2dsl.plan.inputs import Input, find_texts
from gpt2dsl.plan.memory import Memory
from gpt2dsl.plan.stages import StageSizes
from gpt2dsl.plan.tasks.base import TaskPlan

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import WeightsInfo


class GeneratePlan(TaskPlan):
    """Answers of generate."""

    task: Generate

    def files(self) -> list[Input]:
        return find_texts(self.parts)

    def generation(self, info: WeightsInfo | None) -> tuple[Generation, list[Fault]]:
        settings, problems = generation.completed(self.parts, info)
        return settings, [*generation.faults(self.parts, settings), *problems]

    def notes(
        self, config: GPT2Config, settings: Generation, info: WeightsInfo | None
    ) -> Iterator[str]:
        return generation.notes(self.parts, settings, info)

    def memory_of_stage(self, config: GPT2Config, stage: StageSizes) -> Memory:
        return memories.of_generation(self.parts, config, stage)
