"""What resharding can't do, and what it writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from gpt2dsl.data import cache
from gpt2dsl.errors import Fault, InputError, RunError
from gpt2dsl.layout.ranks import Ranks
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.parts.parallel import Parallel
from gpt2dsl.parts.task import Reshard
from gpt2dsl.plan import checks
from gpt2dsl.plan.checks import fault
from gpt2dsl.plan.inputs import Input, hints, refused

if TYPE_CHECKING:
    from gpt2dsl.weights.files.stored import Stored
    from gpt2dsl.weights.reading import Look
    from gpt2dsl.weights.resharding import Target

LAYOUT = ("dp", "mp", "pp", "optimizer_shard")
"""What of ``[parallel]`` decides how files are split; the rest is about training."""


@attrs.frozen(kw_only=True)
class Written:
    """What resharding writes.

    Attributes:
        files: how many hold tensors.
        size: bytes of the tensors, copies included.
        memory: bytes of blocks that are on their way at once, whatever the size.
    """

    files: int
    size: int
    memory: int


def faults(parts: Parts, looked: Look | None) -> Iterator[Fault]:
    """Every fault of resharding as a whole, as far as its source is known."""
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


def target_of(layout: Parallel) -> Target:
    """A layout as the writer of files has it."""
    from gpt2dsl.weights.resharding import Target  # noqa: PLC0415  # NumPy: where there are weights

    ranks = Ranks(layout.dp, layout.mp, layout.pp)
    return Target(ranks=ranks, zero=layout.optimizer_shard)


def find(parts: Parts) -> tuple[Written | None, list[Input]]:
    """What is written, and the refusals of a source without state and of a disk too small."""
    task = parts.task
    if not isinstance(task, Reshard):
        return None, []
    from gpt2dsl.weights import opening, resharding, writing  # noqa: PLC0415  # as above

    try:
        known = hints(parts, fetch=False)
        source = opening.opened(task.source, known)
    except InputError:
        return None, []  # It is refused as what the network comes from.
    try:
        folder = source.place.folder
        states: Mapping[str, Stored] = {}
        if task.optimizer:
            states = resharding.Training.of(folder, source.geometry, known).states
    except InputError as error:
        return None, [refused(parts, "task.optimizer", task.source, error)]
    target = target_of(task.layout)
    if source.adapter or any(checks.undivided(task.layout, source.geometry)):
        return None, []
    written = Written(
        files=target.ranks.count,
        size=resharding.size(source.geometry, source.tensors, states, target),
        memory=resharding.memory(target),
    )
    try:
        writing.find_room(cache.expanded(task.target), written.size)
    except RunError as error:
        full = InputError("G2-308", task.target, str(error))
        return written, [refused(parts, "task.target", task.target, full)]
    return written, []
