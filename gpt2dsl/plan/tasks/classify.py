"""The classify task: the classes of texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts.task import Classify
from gpt2dsl.plan.inputs import Input, find_texts
from gpt2dsl.plan.tasks.base import TaskPlan

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import WeightsInfo


class ClassifyPlan(TaskPlan):
    """Answers of classify."""

    task: Classify
    needs_head = True

    def files(self) -> list[Input]:
        return find_texts(self.parts)

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        yield from super().faults(config, info)
        if not config.labels and not self.parts.model.has_file:
            message = "missing; classify needs one, or weights that have such a head"
            yield Fault("G2-107", self.task.origin, "classifier", message, compared=("model",))
