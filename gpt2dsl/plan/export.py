"""Faults and notes of an export."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault, InputError
from gpt2dsl.layout.params import parameter_count
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.model import GPT2_ROWS
from gpt2dsl.parts.task import Export
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, refused

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import Look

LIMIT = 2**31
"""Largest size of a flatbuffer, and of a protobuf, in bytes."""


def faults(parts: Parts, looked: Look | None) -> Iterator[Fault]:
    """Yield the faults of an export as a whole, as far as its source is known."""
    task = parts.task
    if not isinstance(task, Export):
        return
    if task.ge and task.format != "mindir":
        message = f"GE runs MindIR, this is {task.format}"
        yield fault(parts, "G2-107", "task.ge", message, "task.format")
    if looked is None:
        return
    geometry = looked.geometry
    if task.seq_length and task.seq_length > geometry.positions:
        message = f"{task.seq_length} tokens are more than the model's {geometry.positions}"
        yield fault(parts, "G2-204", "task.seq_length", f"{message} positions", "task.source")
    if geometry.labels and not task.cache:
        message = "a classifier is one graph, without a cache"
        yield fault(parts, "G2-107", "task.cache", message, "task.source")
    if task.seq_length == 1 and task.cache and not geometry.labels:
        message = "a prompt and one token after it need 2"
        yield fault(parts, "G2-202", "task.seq_length", message)
    size = parameter_count(geometry) * (2 if task.dtype == "float16" else 4)
    if task.format == "ms" and size >= LIMIT:
        message = (
            f"{size / 1e9:.1f} GB of weights: a .ms is one flatbuffer, made of one protobuf, and "
            "neither holds 2 GB; onnx keeps weights in a file of their own, mindir in a folder"
        )
        yield fault(parts, "G2-308", "task.format", message, "task.source")


def find_writer(parts: Parts) -> Input | None:
    """Return the refusal of a format that can't be written on this machine."""
    task = parts.task
    if not isinstance(task, Export):
        return None
    from gpt2dsl.lite import opening  # noqa: PLC0415  # only exports ask for it

    why = opening.unwritable(task.format)
    if not why:
        return None
    error = InputError("G2-531", task.format, why)
    return refused(parts, "task.format", task.format, error)


def notes(parts: Parts, looked: Look | None) -> Iterator[str]:
    """Yield notes on an export that its user may not expect."""
    task = parts.task
    if not isinstance(task, Export) or looked is None:
        return
    if task.format == "ms" and task.dtype == "float16":
        yield "Lite's converter widens float16: the values are rounded, the file is not smaller"
    if looked.adapter:
        yield "the adapter is part of the weights now"
    if looked.tokenizer is None:
        is_gpt2 = looked.geometry.vocab in GPT2_ROWS
        consequence = (
            "lite run takes GPT-2's own" if is_gpt2 else "graphs take ids, lite run can't use them"
        )
        if is_gpt2 and task.format == "onnx":
            consequence = "GPT-2's own lies beside the model"
        yield f"the source has no tokenizer: {consequence}"
