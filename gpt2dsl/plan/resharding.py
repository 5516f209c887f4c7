"""Faults and output of resharding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gpt2dsl.errors import Fault, InputError
from gpt2dsl.files import cache
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.task import Reshard
from gpt2dsl.plan import checks
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, refused
from gpt2dsl.plan.written import Written

if TYPE_CHECKING:
    from gpt2dsl.weights.files.lazy_tensor import LazyTensor
    from gpt2dsl.weights.infer_config import Overrides
    from gpt2dsl.weights.reading import Look

LAYOUT = ("dp", "mp", "pp", "optimizer_shard")
"""Keys of ``[parallel]`` that decide how files are split; others concern training only."""


def faults(parts: Parts, looked: Look | None) -> Iterator[Fault]:
    """Yield the faults of resharding as a whole, as far as its source is known."""
    task = parts.task
    if not isinstance(task, Reshard):
        return
    for key in ("layout", "source_layout"):
        layout = getattr(task, key)
        if layout and (extra := [name for name in layout.changed() if name not in LAYOUT]):
            message = f"{', '.join(extra)} changes no file; {', '.join(LAYOUT)} do"
            yield fault(parts, "G2-105", f"task.{key}", message)
    source, target = (cache.expanded(name).absolute() for name in (task.source, task.target))
    if source.is_dir() and source in target.parents:
        message = "it lies in the source, which stays as it is"
        yield fault(parts, "G2-308", "task.target", message)
    if looked is None:
        return
    for key, message in checks.undivided(task.layout, looked.geometry):
        yield fault(parts, "G2-203", "task.layout", f"{key}: {message}")
    if looked.adapter:
        message = "an adapter is small and read by every layout; convert --merge makes it whole"
        yield fault(parts, "G2-107", "task.source", message)


def find(parts: Parts, looked: Look | None, said: Overrides) -> tuple[Written | None, list[Input]]:
    """Return the output, and the refusal of a source without optimizer state.

    Args:
        parts: the recipe's.
        looked: description of the source; None where it is refused.
        said: the recipe's settings of the source.
    """
    task = parts.task
    if not isinstance(task, Reshard) or looked is None:
        return None, []
    if looked.adapter or any(checks.undivided(task.layout, looked.geometry)):
        return None, []  # faults() reports them
    from gpt2dsl.weights import resharding  # noqa: PLC0415  # NumPy: only for weights

    states: Mapping[str, LazyTensor] = {}
    if task.optimizer:
        try:
            states = resharding.TrainingState.of(looked.path, looked.geometry, said).states
        except InputError as error:
            return None, [refused(parts, "task.optimizer", task.source, error)]
    target = resharding.Target(ranks=task.layout.grid, zero=task.layout.optimizer_shard)
    written = Written(
        files=target.ranks.count,
        size=resharding.size(looked.geometry, looked.tensors, states, target),
        memory=resharding.memory(target),
    )
    return written, []
