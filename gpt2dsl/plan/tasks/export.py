"""The export task: graphs for deployment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault, InputError
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.parts import Generation
from gpt2dsl.parts.model import GPT2_ROWS
from gpt2dsl.parts.task import Export
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, refused
from gpt2dsl.plan.tasks.conversion import ConversionPlan
from gpt2dsl.plan.written import Output, Written

if TYPE_CHECKING:
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import WeightsInfo

LIMIT = 2**31
"""Largest size of a flatbuffer, and of a protobuf, in bytes."""


class ExportPlan(ConversionPlan):
    """Answers of export."""

    task: Export
    opens_tokenizer = True

    def inputs(self) -> Iterator[Input]:
        from gpt2dsl.lite import opening  # noqa: PLC0415  # only exports ask for it

        if why := opening.unwritable(self.task.format):
            error = InputError("G2-531", self.task.format, why)
            yield refused(self.parts, "task.format", self.task.format, error)

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        yield from super().faults(config, info)
        task, parts = self.task, self.parts
        if task.ge and task.format != "mindir":
            message = f"GE runs MindIR, this is {task.format}"
            yield fault(parts, "G2-107", "task.ge", message, "task.format")
        if info is None:
            return
        if task.seq_length and task.seq_length > config.positions:
            message = f"{task.seq_length} tokens are more than the model's {config.positions}"
            yield fault(
                parts,
                "G2-204",
                "task.seq_length",
                f"{message} positions",
                "task.source",
                compared=("model",),
            )
        if config.labels and not task.cache:
            message = "a classifier is one graph, without a cache"
            yield fault(
                parts, "G2-107", "task.cache", message, "task.source", compared=("task", "model")
            )
        if task.seq_length == 1 and task.cache and not config.labels:
            message = "a prompt and one token after it need 2"
            yield fault(parts, "G2-202", "task.seq_length", message, compared=("task", "model"))
        size = parameter_count(config) * (2 if task.dtype == "float16" else 4)
        if task.format == "ms" and size >= LIMIT:
            message = (
                f"{size / 1e9:.1f} GB of weights: a .ms is one flatbuffer, made of one protobuf, "
                "and neither holds 2 GB; onnx keeps weights in a file of their own, mindir in a "
                "folder"
            )
            yield fault(
                parts, "G2-308", "task.format", message, "task.source", compared=("task", "model")
            )

    def notes(
        self, config: GPT2Config, settings: Generation, info: WeightsInfo | None
    ) -> Iterator[str]:
        if info is None:
            return
        if self.task.format == "ms" and self.task.dtype == "float16":
            yield "Lite's converter widens float16: the values are rounded, the file is not smaller"
        if info.adapter:
            yield "the adapter is part of the weights now"
        if info.tokenizer is None:
            is_gpt2 = config.vocab in GPT2_ROWS
            consequence = (
                "lite run takes GPT-2's own"
                if is_gpt2
                else "graphs take ids, lite run can't use them"
            )
            if is_gpt2 and self.task.format == "onnx":
                consequence = "GPT-2's own lies beside the model"
            yield f"the source has no tokenizer: {consequence}"

    def output(self, info: WeightsInfo | None, overrides: Overrides) -> Output:
        if info is None:
            return None, ()
        from gpt2dsl.lite import writing  # noqa: PLC0415  # only exports ask for it
        from gpt2dsl.lite.shapes import Shapes  # noqa: PLC0415  # as above

        task, config = self.task, info.geometry
        shapes = Shapes(config, task.batch, task.seq_length or config.positions)
        names = writing.names_of(task.format, shapes, cache=task.cache)
        size, scratch = writing.room(
            task.format, names, parameter_count(config), task.dtype or "float32"
        )
        return Written(files=len(names), size=size, scratch=scratch), ()
