"""Search for the checkpoint to resume from, on which all ranks agree.

The ranks share the comparison of checksums, so that each file is read by one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from gpt2dsl.distributed.context import ParallelContext
from gpt2dsl.engine.checkpoints import step_of
from gpt2dsl.errors import InputError
from gpt2dsl.files import atomic
from gpt2dsl.terminal import say
from gpt2dsl.weights import store

_RANK = re.compile(r"rank_(\d+)/.*")
_TENSORS = ".safetensors"


def find(parent: Path, resume: str, team: ParallelContext) -> Path | None:
    """Return the checkpoint to resume from, None to start anew (collective).

    A named checkpoint is where a run starts; after a stop, the run resumes from its own newest one.

    Args:
        parent: folder of the run's checkpoints.
        resume: auto, never, or the folder of a checkpoint.
        team: the ranks; all of them get the same folder.

    Raises:
        InputError: the named checkpoint is damaged.
    """
    if resume == "never":
        return None
    newest = _newest(parent, team)
    if resume != "auto":
        if newest.step > step_of(Path(resume)):
            say(f"{resume} is where this run began; it goes on from its own newest checkpoint")
        elif fault := _fault(Path(resume), team):
            raise fault
        else:
            return Path(resume)
    for fault in newest.skipped:
        say(f"passed over: {fault}")
    return newest.folder


def _newest(parent: Path, team: ParallelContext) -> store.Newest:
    """Return the newest checkpoint that all ranks find intact (collective)."""
    atomic.sweep(parent)
    folders = dict(store.steps(parent))
    skipped: list[InputError] = []
    while True:
        # On shared disks a rank may not see a folder yet: then it is a fault there.
        step = int(max(newest for (newest,) in team.all_gather(max(folders, default=-1))))
        if step < 0:
            return store.Newest(skipped=tuple(skipped))
        folder = folders.pop(step, parent / f"step-{step}")
        fault = _fault(folder, team)
        if fault is None:
            return store.Newest(step, folder, tuple(skipped))
        skipped.append(fault)


def _fault(folder: Path, team: ParallelContext) -> InputError | None:
    """Return the first rank's fault of a checkpoint, the same on all ranks (collective)."""
    mine = None
    try:
        names = store.manifest(folder)["files"]
        store.verify(folder, only=files_of(team.rank, team.dims.count, names))
    except InputError as error:
        first = error.faults[0]
        mine = first.code, first.key, first.message
    faults = [fault for fault in team.gather(mine) if fault]
    return InputError(*faults[0]) if faults else None


def files_of(rank: int, ranks: int, names: Iterable[str]) -> set[str]:
    """Return the files whose checksums a rank compares.

    Its own file is among them; whole files are shared out, and those without tensors are rank 0's.
    """
    mine, whole = set(), 0
    for name in sorted(names):
        number = 0
        if match := _RANK.fullmatch(name):
            number = int(match[1])
        elif name.endswith(_TENSORS):
            number, whole = whole, whole + 1
        if number % ranks == rank:
            mine.add(name)
    return mine
