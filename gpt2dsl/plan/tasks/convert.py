"""The convert task: weights from one format to another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault, InputError
from gpt2dsl.files import cache
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.params import param_specs, parameter_count
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.model import GPT2_ROWS
from gpt2dsl.parts.task import Convert
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import weights_name
from gpt2dsl.plan.tasks.conversion import ConversionPlan
from gpt2dsl.plan.written import BYTES, Output, Written

if TYPE_CHECKING:
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import WeightsInfo


class ConvertPlan(ConversionPlan):
    """Answers of convert."""

    task: Convert

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.is_adapter_alone = self.task.to == "peft"
        self.gives_weights = not self.is_adapter_alone
        self.gives_tokenizer = not self.task.target.endswith(".ckpt")
        suffix = Path(self.task.target).suffix
        self._is_file = self.task.to == "mindformers" and suffix == ".ckpt"

    def targets(self) -> tuple[Path, ...]:
        """Return the files that it writes: a .ckpt comes with a YAML file."""
        target = cache.expanded(self.task.target)
        return (target, target.with_suffix(".yaml")) if self._is_file else (target,)

    def faults(self, config: GPT2Config, info: WeightsInfo | None) -> Iterator[Fault]:
        yield from super().faults(config, info)
        yield from self._target()
        yield from self._adapter(info)
        if info and self.task.to == "mindformers":
            yield from self._for_mindformers(info)

    def notes(
        self, config: GPT2Config, settings: Generation, info: WeightsInfo | None
    ) -> Iterator[str]:
        if info is None:
            return
        mindformers = self.task.to == "mindformers"
        applies = {
            "float64 is written as float32, rounded to the nearest": (
                not self.task.dtype and "float64" in info.dtypes
            ),
            "the tokenizer stays behind: a folder as target takes it along": (
                self._is_file and info.tokenizer is not None
            ),
            "no tokenizer lies beside the source: generate, classify and serve need --tokenizer, "
            "recipes data.tokenizer": (
                info.tokenizer is None and info.geometry.vocab not in GPT2_ROWS
            ),
            "MindFormers has no gelu by erf: its own, the tanh form, gives logits that differ in "
            "the third digit; read back here, the YAML restores erf": (
                mindformers and info.geometry.activation == "gelu"
            ),
            "the adapter is part of the weights now": mindformers and info.adapter,
        }
        yield from (note for note, holds in applies.items() if holds)

    def output(self, info: WeightsInfo | None, overrides: Overrides) -> Output:
        size = self._size_of_adapter(overrides) if self.is_adapter_alone else self._size(info)
        return Written(files=1, size=size) if size else None, ()

    def _size(self, info: WeightsInfo | None) -> int:
        """Return the bytes of full weights; 0 where they depend on weights yet to be made."""
        if info is None:
            return 0
        if self.task.dtype:
            return parameter_count(info.geometry) * BYTES[self.task.dtype]
        from gpt2dsl.weights import writing  # noqa: PLC0415  # NumPy: only for weights

        present = sum(tensor.size for tensor in writing.in_dtype(info.tensors, "").values())
        shapes = {tensor.name: tensor.shape for tensor in param_specs(info.geometry)}
        added = sum(BYTES["float32"] * math.prod(shapes[name]) for name in info.new)
        return present + added if present else 0

    def _size_of_adapter(self, overrides: Overrides) -> int:
        """Return the bytes of an adapter alone; 0 if it is refused or yet to be made."""
        from gpt2dsl.weights import opening, writing  # noqa: PLC0415  # as above

        name = weights_name(self.parts)
        if not name:
            return 0
        try:
            adapter = opening.adapter(name, overrides, contents=False)
        except InputError:
            return 0
        tensors = {str(number): tensor for number, tensor in enumerate(adapter.tensors)}
        return sum(tensor.size for tensor in writing.in_dtype(tensors, self.task.dtype).values())

    def _target(self) -> Iterator[Fault]:
        to, suffix = self.task.to, Path(self.task.target).suffix
        files = (".ckpt", ".safetensors", ".bin", *((".yaml",) if to == "mindformers" else ()))
        if self._is_file or suffix.lower() not in files:
            return
        message = f"expected a folder for {to}, found a file's name"
        if to == "mindformers":
            message = f"expected a file that ends in .ckpt, or a folder, found {suffix}"
        elif suffix == ".ckpt":
            message += '; to = "mindformers" writes a .ckpt'
        yield fault(self.parts, "G2-202", "task.target", message, "task.to")

    def _adapter(self, info: WeightsInfo | None) -> Iterator[Fault]:
        merge = self.task.merge
        if self.is_adapter_alone:
            if merge:
                message = "merged weights are no adapter; leave merge out, or convert to hf"
                yield fault(self.parts, "G2-105", "task.merge", message, "task.to")
            return
        if info and info.adapter and not merge:
            message = (
                "the source is an adapter: task.merge = true adds it to its base, "
                'task.to = "peft" keeps it apart'
            )
            is_written = self.parts.origin("task.merge") != "default"
            key = "task.merge" if is_written else "task.source"
            yield fault(self.parts, "G2-107", key, message, compared=("task", "model"))
        if info and merge and not info.adapter:
            message = "there is no adapter in the source to merge"
            yield fault(self.parts, "G2-107", "task.merge", message, compared=("task", "model"))

    def _for_mindformers(self, info: WeightsInfo) -> Iterator[Fault]:
        from gpt2dsl.weights.formats import settings  # noqa: PLC0415  # NumPy: only for weights

        dtype = self.task.dtype
        for words in settings.inexpressible(info.geometry):
            message = f"MindFormers has no word for {words}"
            yield fault(self.parts, "G2-308", "task.to", message, compared=("task", "model"))
        stays_bfloat16 = not dtype and "bfloat16" in info.dtypes
        if stays_bfloat16 or dtype == "bfloat16":
            message = "MindFormers 0.8 reads no bfloat16; say float32 or float16"
            yield fault(
                self.parts,
                "G2-308",
                "task.dtype" if dtype else "task.to",
                message,
                compared=("task", "model"),
            )
