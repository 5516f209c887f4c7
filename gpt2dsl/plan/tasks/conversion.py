"""Answers that all conversions share: a source, a target, and room for it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.errors import Fault, FileError, InputError
from gpt2dsl.files import cache
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.parts.values import as_written
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, refused
from gpt2dsl.plan.steps import PlanStep
from gpt2dsl.plan.tasks.base import TaskPlan
from gpt2dsl.plan.written import Output, Written

if TYPE_CHECKING:
    from gpt2dsl.parts.task import Conversion
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import WeightsInfo


class ConversionPlan(TaskPlan):
    """Answers of a task that writes weights or graphs in one process."""

    task: Conversion
    opens_tokenizer = False
    hint = ""  # to a recipe with several ranks

    def overrides(self, *, fetch: bool) -> Overrides:
        """Return the same as for other tasks, with ``model.weights`` as the base of an adapter."""
        model = self.parts.model
        base = model.weights if model.has_file else ""
        return attrs.evolve(super().overrides(fetch=fetch), base=base)

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        kind = self.task.kind
        if self.task.source == "auto":
            yield Fault("G2-103", self.task.origin, "task.source", f"missing; {self._cure()}")
        if self.parts.parallel.ranks > 1:
            message = f"{kind} runs in one process{self.hint}"
            yield fault(self.parts, "G2-107", "parallel", message, "task.kind")

    def _cure(self) -> str:
        """Return what a conversion without a source should take its weights from."""
        parts = self.parts
        if not parts.model.has_file:
            return f"only a later stage of a chain has weights to {self.task.kind} without it"
        value, origin = as_written(parts.model.weights), parts.origin("model.weights")
        return f"write task.source = {value}, in place of model.weights ({origin})"

    def steps(self) -> tuple[PlanStep, ...]:
        return (PlanStep(self.task.kind, (self.task.source,), (self.task.target,)),)

    def writes_to(self, directory: Path) -> str:
        return self.task.target

    def written(self, info: WeightsInfo | None, overrides: Overrides) -> Output:
        """Return the output, and refuse a target that exists and a disk that is too small."""
        written, refusals = self.output(info, overrides)
        items = (self._occupied(), self._without_room(written), *refusals)
        return written, [item for item in items if item]

    @abstractmethod
    def output(self, info: WeightsInfo | None, overrides: Overrides) -> Output:
        """Return the output, None where it is not known, and refusals of the source."""

    def targets(self) -> tuple[Path, ...]:
        return (cache.expanded(self.task.target),)

    def _refused(self, error: InputError) -> Input:
        return refused(self.parts, "task.target", self.task.target, error, ("task", "model"))

    def _occupied(self) -> Input | None:
        """Return the refusal of a target that exists: nothing is overwritten."""
        name = self.task.target
        for path in self.targets():
            try:
                exists = path.exists() or path.is_symlink()
            except OSError as error:
                why = f"it can't be written: {error.strerror}"
                return self._refused(InputError("G2-308", name, why))
            if exists:
                message = f"{path} is there already: remove it, or name another"
                return self._refused(InputError("G2-308", name, message))
        return None

    def _without_room(self, written: Written | None) -> Input | None:
        """Return the refusal of a disk without room for the output."""
        if written is None:
            return None
        from gpt2dsl.weights import writing  # noqa: PLC0415  # NumPy: only for weights

        try:
            writing.find_room(cache.expanded(self.task.target), written.size + written.scratch)
        except OSError:  # reported for the target itself
            return None
        except FileError as error:
            return self._refused(InputError("G2-308", self.task.target, error.message))
        return None
