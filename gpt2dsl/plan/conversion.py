"""Faults and notes of a conversion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault, InputError
from gpt2dsl.files import cache
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.model import GPT2_ROWS
from gpt2dsl.parts.task import Conversion, Convert
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, refused

if TYPE_CHECKING:
    from gpt2dsl.weights.reading import Look


def faults(parts: Parts, looked: Look | None) -> list[Fault]:
    """Return the faults of a conversion as a whole, as far as its source is known."""
    if not isinstance(parts.task, Convert):
        return []
    errors = [*_target(parts, parts.task), *_adapter(parts, parts.task, looked)]
    if looked and parts.task.to == "mindformers":
        errors += _for_mindformers(parts, parts.task, looked)
    return errors


def find_target(parts: Parts) -> Input | None:
    """Return the refusal of a target that exists: nothing is overwritten."""
    task = parts.task
    if not isinstance(task, Conversion):
        return None
    target = cache.expanded(task.target)
    is_file = isinstance(task, Convert) and _is_file(task)
    for path in (target, target.with_suffix(".yaml")) if is_file else (target,):
        try:
            taken = path.exists() or path.is_symlink()
        except OSError as error:
            unwritable = InputError("G2-308", task.target, f"it can't be written: {error.strerror}")
            return refused(parts, "task.target", task.target, unwritable)
        if taken:
            message = f"{path} is there already: remove it, or name another"
            occupied = InputError("G2-308", task.target, message)
            return refused(parts, "task.target", task.target, occupied)
    return None


def notes(parts: Parts, looked: Look | None) -> tuple[str, ...]:
    """Return notes on a conversion that its user may not expect."""
    task = parts.task
    if looked is None or not isinstance(task, Convert):
        return ()
    mindformers = task.to == "mindformers"
    applies = {
        "float64 is written as float32, rounded to the nearest": (
            not task.dtype and "float64" in looked.dtypes
        ),
        "the tokenizer stays behind: a folder as target takes it along": (
            _is_file(task) and looked.tokenizer is not None
        ),
        "no tokenizer lies beside the source: texts need --tokenizer": (
            looked.tokenizer is None and looked.geometry.vocab not in GPT2_ROWS
        ),
        "MindFormers has no gelu by erf: its own, the tanh form, gives logits that differ in the "
        "third digit; read back here, the YAML restores erf": (
            mindformers and looked.geometry.activation == "gelu"
        ),
        "the adapter is part of the weights now": mindformers and looked.adapter,
    }
    return tuple(words for words, holds in applies.items() if holds)


def _is_file(task: Convert) -> bool:
    return task.to == "mindformers" and Path(task.target).suffix == ".ckpt"


def _target(parts: Parts, task: Convert) -> Iterator[Fault]:
    suffix = Path(task.target).suffix
    files = (".ckpt", ".safetensors", ".bin", *((".yaml",) if task.to == "mindformers" else ()))
    if _is_file(task) or suffix.lower() not in files:
        return
    message = f"expected a folder for {task.to}, found a file's name"
    if task.to == "mindformers":
        message = f"expected a file that ends in .ckpt, or a folder, found {suffix}"
    elif suffix == ".ckpt":
        message += '; to = "mindformers" writes a .ckpt'
    yield fault(parts, "G2-202", "task.target", message, "task.to")


def _adapter(parts: Parts, task: Convert, looked: Look | None) -> Iterator[Fault]:
    if task.to == "peft":
        if task.merge:
            message = "merged weights are no adapter; leave merge out, or convert to hf"
            yield fault(parts, "G2-105", "task.merge", message, "task.to")
        return
    if looked and looked.adapter and not task.merge:
        message = 'the source is an adapter: merge adds it to its base, to = "peft" keeps it apart'
        yield fault(parts, "G2-107", "task.merge", message, "task.source")
    if looked and task.merge and not looked.adapter:
        yield fault(parts, "G2-107", "task.merge", "there is no adapter in the source to merge")


def _for_mindformers(parts: Parts, task: Convert, looked: Look) -> Iterator[Fault]:
    from gpt2dsl.weights.formats import settings  # noqa: PLC0415  # NumPy: only where there are weights

    for words in settings.inexpressible(looked.geometry):
        yield fault(parts, "G2-308", "task.to", f"MindFormers has no word for {words}")
    stays_bfloat16 = not task.dtype and "bfloat16" in looked.dtypes
    if stays_bfloat16 or task.dtype == "bfloat16":
        message = "MindFormers 0.8 reads no bfloat16; say float32 or float16"
        yield fault(parts, "G2-308", "task.dtype" if task.dtype else "task.to", message)
