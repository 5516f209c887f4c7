"""A job on several ranks: processes of their own, each of which runs the task's engine."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.cluster.supervisor import Limits, Node, free_port, supervise
from gpt2dsl.engine.callbacks import Callbacks
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.rundir import RunDirectory
from gpt2dsl.layout.tensors import parameters

PATIENCE = 120.0
"""Seconds that ranks wait for one another, besides what a checkpoint takes."""

BYTES_OF_STATE, DISK = 16, 50e6
"""Bytes a parameter that a checkpoint gathers and writes, and bytes a second of a slow disk."""

RESULT = "result.pickle"


def run(job: Job) -> Result:
    """Run a job on all its ranks, on this machine.

    Raises:
        RunError: a rank failed; all others are ended.
        Interrupted: the user stopped it; a checkpoint has what was done.
    """
    ranks = job.parts.parallel.ranks
    node = Node(ranks=ranks, local=ranks, port=free_port())
    return run_node(job, node)


def run_node(job: Job, node: Node) -> Result:
    """Run a job's ranks of one machine; raises as ``run`` does."""
    with _folder(job) as folder:
        file = folder / "job.pickle"
        result = folder / RESULT
        result.unlink(missing_ok=True)
        file.write_bytes(pickle.dumps(attrs.evolve(job, callbacks=(), on_text=None)))
        told = Callbacks(job.callbacks)

        def on_report(report: dict[str, Any]) -> None:
            if report.get("kind") == "event":
                what = (
                    Path(report["what"]) if report["event"] == "on_checkpoint" else report["what"]
                )
                getattr(told, report["event"])(report["step"], what)

        command = [sys.executable, "-m", "gpt2dsl.engine.rank", str(file)]
        supervise(command, node, folder / "logs", limits(job), on_report=on_report)
        found: Result = pickle.loads(result.read_bytes())  # noqa: S301  # our own rank's
    if job.parts.trains:
        told.on_end(found)
    elif job.on_text:
        job.on_text(str(found) + "\n")
    return found


def limits(job: Job) -> Limits:
    """How long ranks may wait: one may gather and write a checkpoint while the others do nothing.

    A rank that dies is seen at once, whatever they are.
    """
    checkpoint = parameters(job.geometry) * BYTES_OF_STATE / DISK
    return Limits(collective=PATIENCE + checkpoint, start=PATIENCE + checkpoint)


@contextmanager
def _folder(job: Job) -> Iterator[Path]:
    """Where the ranks find their job and leave their logs and result."""
    with ExitStack() as stack:
        if job.directory is None:
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpt2dsl-ranks-")))
            return
        directory = RunDirectory.of(job)
        stack.enter_context(directory.alone())
        folder = directory.path / "ranks"
        folder.mkdir(exist_ok=True)
        yield folder
