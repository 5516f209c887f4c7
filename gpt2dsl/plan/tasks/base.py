"""Base class of task plans: a task's inputs, checks, steps, memory and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan import generation
from gpt2dsl.plan import memory as memories
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, weights_name
from gpt2dsl.plan.memory import Memory
from gpt2dsl.plan.serving import Served
from gpt2dsl.plan.stages import StageSizes
from gpt2dsl.plan.steps import PlanStep
from gpt2dsl.plan.written import Output

if TYPE_CHECKING:
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import WeightsInfo


class TaskPlan:
    """Plan of a task; each kind of task has a subclass in its own module.

    Attributes:
        parts: parts of the recipe.
        task: the recipe's task.
        layout: parallel layout of the files that the task writes.
        weights: name of the initial weights, shown in steps.
        opens_tokenizer: whether the task computes with the tokenizer; others at most copy it.
        completes_generation: whether the plan completes generation settings from the weights.
        is_adapter_alone: whether the weights are an adapter without its base.
        needs_head: whether the weights must have a classification head.
        has_pipeline: whether the task runs on the stages of a pipeline.
        gives_weights: whether a later stage of a chain can start from the task's output.
        gives_tokenizer: whether the task writes a tokenizer next to the weights.
        saves_optimizer: whether the task writes optimizer state.
    """

    task: Any
    opens_tokenizer = completes_generation = gives_tokenizer = True
    is_adapter_alone = needs_head = has_pipeline = gives_weights = saves_optimizer = False

    def __init__(self, parts: Parts) -> None:
        self.parts, self.task, self.layout = parts, parts.task, parts.parallel
        self.weights = weights_name(parts) or "new weights"

    def overrides(self, *, fetch: bool) -> Overrides:
        """Return the recipe's overrides of the weights; ``fetch`` allows downloads from the Hub."""
        from gpt2dsl.weights.infer_config import Overrides  # noqa: PLC0415  # NumPy: only for weights

        return Overrides.of(self.parts.model, fetch=fetch)

    def inputs(self) -> Iterator[Input]:
        """Yield further inputs, and refusals of what this machine lacks."""
        yield from ()

    def files(self) -> list[Input]:
        """Return the inputs other than weights, tokenizer and data."""
        return []

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        """Yield the faults of the task; ``info`` is None if the weights are not known."""
        if self.parts.parallel.pp > 1 and self.task and not self.has_pipeline:
            message = f"{self.task.kind} has no pipeline; it runs under dp and mp"
            yield fault(self.parts, "G2-107", "parallel.pp", message, "task.kind")

    def generation(self, info: WeightsInfo | None) -> tuple[Generation, list[Fault]]:
        """Return the generation settings, completed from the weights, and their faults."""
        settings, _ = generation.completed(self.parts, info)
        return settings, generation.faults(self.parts, self.parts.generation)

    def notes(
        self, config: GPT2Config, settings: Generation, info: WeightsInfo | None
    ) -> Iterator[str]:
        """Yield the notes of the plan; ``settings`` are the completed generation settings."""
        yield from ()

    def steps(self) -> tuple[PlanStep, ...]:
        """Return the steps of the task, in order."""
        return (PlanStep(self.task.kind, (self.weights,), ("result.json",)),)

    def memory(self, config: GPT2Config, stages: Sequence[StageSizes]) -> Memory:
        """Return the peak memory of a rank, over all pipeline stages."""
        needed = (self.memory_of_stage(config, stage) for stage in stages)
        return max(needed, key=lambda memory: memory.total)

    def memory_of_stage(self, config: GPT2Config, stage: StageSizes) -> Memory:
        """Return the peak memory of a rank of one pipeline stage."""
        return memories.of_inference(self.parts, config, stage)

    def written(self, info: WeightsInfo | None, overrides: Overrides) -> Output:
        """Return the output of a conversion, None if it is not known, and the refused inputs."""
        return None, ()

    def writes_to(self, directory: Path) -> str:
        """Return the target or directory that the task writes; "" if it writes none."""
        return str(directory) if self.task.has_directory else ""

    def served(self) -> Served | None:
        """Return the description of a server; None for other tasks."""
        return None
