"""A job on several ranks: one process each, which runs the engine of the task."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.cluster import ranktable
from gpt2dsl.cluster.supervisor import Node, Timeouts, free_port, supervise
from gpt2dsl.engine.callbacks import Callback, Callbacks, Start
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.engine.rundir import RunDirectory, what_next
from gpt2dsl.errors import Interrupted, RunError
from gpt2dsl.layout.params import parameter_count

PATIENCE = 120.0
"""Seconds that ranks wait for each other, in addition to the time of a checkpoint."""

BYTES_OF_STATE, DISK = 16, 50e6
"""Checkpoint bytes per parameter, and bytes per second of a slow disk."""

RESULT = "result.pickle"


def run(job: Job) -> Result:
    """Run a job with all its ranks on this machine.

    Raises:
        RunError: a rank failed; all others are terminated.
        Interrupted: the user stopped the job; a checkpoint has its state.
    """
    ranks = job.parts.parallel.ranks
    node = Node(ranks=ranks, local=ranks, port=free_port())
    return run_node(job, node)


def run_node(job: Job, node: Node, *, orders: int | None = None) -> Result:
    """Run the ranks of a job on one machine; raises as ``run`` does.

    Args:
        job: the job, identical on all machines.
        node: the ranks of this machine. All machines of a job share the run directory.
        orders: a pipe with the launcher's orders.

    Returns:
        The full result on the machine with rank 0; elsewhere only its task and directory.
    """
    node = _on_table(job, node)
    is_main_process = node.first == 0
    with _folder(job, is_main_process=is_main_process) as folder:
        file = folder / f"job_{node.first}.pickle"
        result = folder / RESULT
        if is_main_process:
            result.unlink(missing_ok=True)
        file.write_bytes(pickle.dumps(attrs.evolve(job, callbacks=(), on_text=None)))
        reports = _Heard(job.callbacks)
        command = [sys.executable, "-m", "gpt2dsl.engine.rank", str(file)]
        try:
            supervise(
                command, node, folder / "logs", limits(job), on_report=reports.take, orders=orders
            )
        except RunError as error:
            # an error that a rank reported itself would recur: no hint to resume
            if isinstance(error, Interrupted) or reports.an_error:
                raise
            runs = [job.directory] if job.directory and job.parts.trains else []
            raise RunError(
                error.code, error.message, what_next(job.resume_command, runs)
            ) from error
        if not is_main_process:
            assert job.parts.task is not None
            return Result(task=job.parts.task.kind, directory=job.directory)
        outcome: Result = pickle.loads(result.read_bytes())  # noqa: S301  # our own rank's
    if job.parts.trains:
        reports.told.on_end(outcome)
    elif job.on_text:
        job.on_text(str(outcome) + "\n")
    return outcome


class _Heard:
    """Receiver of the ranks' reports: forwards events to callbacks, and notes reported errors."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.told = Callbacks(callbacks)
        self.an_error = False

    def take(self, report: dict[str, Any]) -> None:
        """Process a report of any kind."""
        if report.get("kind") == "error":
            self.an_error = True
        elif report.get("kind") == "event":
            event, what = report["event"], report["what"]
            if event == "on_start":
                self.told.on_start(Start(**what | {"directory": Path(what["directory"])}))
                return
            what = Path(what) if event == "on_checkpoint" else what
            getattr(self.told, event)(report["step"], what)


def limits(job: Job) -> Timeouts:
    """Return how long ranks may wait: one may write a checkpoint while the others are idle.

    The death of a rank is detected at once, whatever the timeouts.
    """
    checkpoint = parameter_count(job.geometry) * BYTES_OF_STATE / DISK
    return Timeouts(collective=PATIENCE + checkpoint, start=PATIENCE + checkpoint)


def _on_table(job: Job, node: Node) -> Node:
    """Return the node with devices from a rank table, by which HCCL works without a scheduler."""
    runtime = job.parts.runtime
    if not (runtime.rank_table and runtime.device == "ascend"):
        return node
    path = Path(runtime.rank_table).absolute()
    here = range(node.first, node.first + node.local)
    for server in ranktable.read(path).servers:
        devices = {device.rank_id: device.device_id for device in server.devices}
        if devices.keys() >= set(here):
            ids = tuple(devices[rank] for rank in here)
            return attrs.evolve(node, schedules=False, rank_table=str(path), devices=ids)
    raise RunError(
        "G2-522",
        f"{path}: no server has the ranks {here.start} to {here.stop - 1}; several machines need "
        "gpt2dsl launch SPEC --hosts FILE",
    )


@contextmanager
def _folder(job: Job, *, is_main_process: bool) -> Iterator[Path]:
    """Yield the folder of the ranks' job, logs and result."""
    with ExitStack() as stack:
        if job.directory is None:
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpt2dsl-ranks-")))
            return
        directory = RunDirectory.of(job, writes=is_main_process)
        stack.enter_context(directory.alone())
        folder = directory.path / "ranks"
        folder.mkdir(exist_ok=True)
        yield folder
