"""Answers of a task to its plan: what it reads, checks, does and gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2dsl.errors import Fault
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.model import SIZES
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
    """Answers of a task; a kind of task has a subclass in a module of its own.

    Attributes:
        parts: the recipe's.
        task: its task.
        layout: layout of the files that it writes.
        weights: name of the initial weights in steps.
        opens_tokenizer: whether it computes with the tokenizer; other tasks at most copy it.
        completes_generation: whether the engine gets generation settings that the weights complete.
        is_adapter_alone: whether its weights are an adapter without its base.
        needs_head: whether its weights must have a classification head.
        has_pipeline: whether it runs on the stages of a pipeline.
        gives_weights: whether it makes weights that a later stage of a chain can take.
        gives_tokenizer: whether it writes a tokenizer beside them.
        saves_optimizer: whether it writes optimizer state.
    """

    task: Any
    opens_tokenizer = completes_generation = gives_tokenizer = True
    is_adapter_alone = needs_head = has_pipeline = gives_weights = saves_optimizer = False

    def __init__(self, parts: Parts) -> None:
        self.parts, self.task, self.layout = parts, parts.task, parts.parallel
        self.weights = weights_name(parts) or "new weights"

    def overrides(self, *, fetch: bool) -> Overrides:
        """Return the recipe's settings of its weights; ``fetch`` downloads from the Hub."""
        from gpt2dsl.weights.infer_config import Overrides  # noqa: PLC0415  # NumPy: only for weights

        model = self.parts.model
        return Overrides(
            size=SIZES[model.canonical_size] if model.size else None,
            heads=model.heads,
            activation=model.activation,
            allow_missing=model.allow_missing,
            fetch=fetch,
        )

    def inputs(self) -> Iterator[Input]:
        """Yield inputs that stand beside the weights, and refusals of this machine."""
        yield from ()

    def files(self) -> list[Input]:
        """Return inputs besides weights, tokenizer and data."""
        return []

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        """Yield the faults of the task as a whole, as far as its weights are known."""
        if self.parts.parallel.pp > 1 and self.task and not self.has_pipeline:
            message = f"{self.task.kind} has no pipeline; it runs under dp and mp"
            yield fault(self.parts, "G2-107", "parallel.pp", message, "task.kind")

    def generation(self, info: WeightsInfo | None) -> tuple[Generation, list[Fault]]:
        """Return the generation settings, completed by those of the weights, and their faults."""
        settings, _ = generation.completed(self.parts, info)
        return settings, generation.faults(self.parts, self.parts.generation)

    def notes(
        self, config: GPT2Config, settings: Generation, info: WeightsInfo | None
    ) -> Iterator[str]:
        """Yield what a reader should know, given completed generation settings."""
        yield from ()

    def steps(self) -> tuple[PlanStep, ...]:
        """Return its steps, in order."""
        return (PlanStep(self.task.kind, (self.weights,), ("result.json",)),)

    def memory(self, config: GPT2Config, stages: Sequence[StageSizes]) -> Memory:
        """Return the memory of the rank that needs the most, over all pipeline stages."""
        needed = (self.memory_of_stage(config, stage) for stage in stages)
        return max(needed, key=lambda memory: memory.total)

    def memory_of_stage(self, config: GPT2Config, stage: StageSizes) -> Memory:
        """Return the memory of a rank of a stage."""
        return memories.of_inference(self.parts, config, stage)

    def written(self, info: WeightsInfo | None, overrides: Overrides) -> Output:
        """Return the output of a conversion, None where it is not known, and what refuses it."""
        return None, ()

    def writes_to(self, directory: Path) -> str:
        """Return the target or directory that it writes; "" for none."""
        return str(directory) if self.task.has_directory else ""

    def served(self) -> Served | None:
        """Return the description of a server; None for other tasks."""
        return None
