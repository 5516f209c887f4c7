"""The run directory: documents of the run, metrics as they are logged, and the result."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import documents
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.errors import FileError
from gpt2dsl.files import lock
from gpt2dsl.layout.parallel_dims import ParallelDims
from gpt2dsl.weights import store

BEFORE = "before.json"
"""Held-out losses and samples of the model before training."""


@attrs.frozen(kw_only=True)
class Attempt:
    """A process that trained in a run, from the start or resumed from a checkpoint.

    Attributes:
        time: start of its first step, in UTC, as ISO 8601.
        step: number of steps done before.
        reached: last step of the previous process, which may be later than the checkpoint resumed
            from; None for the process that started the run.
        layout: its parallel layout; "" if unknown.
    """

    time: str
    step: int
    reached: int | None = None
    layout: str = ""

    @property
    def again(self) -> int:
        """Number of steps that were lost and repeated."""
        return max(0, (self.reached or 0) - self.step)


class RunDirectory:
    """``plan.json``, ``recipe.toml``, ``metrics.jsonl``, ``checkpoints/``, ``result.json``."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self._writes = path, writes
        self.checkpoints = path / "checkpoints"
        self._metrics, self._attempts = path / "metrics.jsonl", path / "attempts.jsonl"

    @classmethod
    def of(cls, job: Job, *, writes: bool = True) -> RunDirectory:
        """Return the directory of a job, created if necessary.

        A new directory gets the job's documents; an existing one stays unchanged until a run
        continues in it.

        Args:
            job: a job with a directory.
            writes: whether this process writes; of several ranks, only the main process does.
        """
        assert job.directory is not None
        run = cls(job.directory, writes=writes)
        with _writing(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        if not (run.path / "plan.json").exists():
            run.describe(job)
        return run

    def describe(self, job: Job) -> None:
        """Write the documents that describe the run; raises as ``write`` does."""
        for name, text in job.documents.items():
            self.write(name, text)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the directory against a second writer; a killed process leaves no lock behind.

        Raises:
            InUseError: another process runs in this directory.
        """
        if not self._writes:
            yield
            return
        with lock.alone(self.path):
            yield

    def write(self, name: str, text: str) -> None:
        """Write a file atomically.

        Raises:
            RunError: the disk is full or can't be written.
        """
        if not self._writes:
            return
        unfinished = self.path / f".{name}.tmp"
        with _writing(self.path / name):
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(self.path / name)

    def log(self, **metrics: float) -> None:
        """Append a line to metrics.jsonl; raises as ``write`` does."""
        if not self._writes:
            return
        # The exponential of a loss may overflow.
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        with _writing(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(documents.dumps(finite) + "\n")

    def metrics(self) -> list[dict[str, float]]:
        """Return the lines of metrics.jsonl; skip a line truncated by a crash."""
        return _lines(self._metrics)

    def attempt(self, step: int, reached: int | None, layout: ParallelDims) -> None:
        """Record in attempts.jsonl that training starts or resumes; raises as ``write`` does.

        Args:
            step: as in ``Attempt``.
            reached: as in ``Attempt``; None discards earlier attempts.
            layout: the parallel layout.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        earlier = [] if reached is None else self.attempts()
        noted = [*earlier, Attempt(time=now, step=step, reached=reached, layout=str(layout))]
        lines = (documents.dumps(attrs.asdict(attempt)) + "\n" for attempt in noted)
        self.write(self._attempts.name, "".join(lines))

    def attempts(self) -> list[Attempt]:
        """Return the recorded attempts in order; early releases recorded none."""
        return [Attempt(**line) for line in _lines(self._attempts)]

    def layout_at(self, step: int) -> str:
        """Return the layout of the process that did a step; "" if unknown."""
        attempts, metrics = self.attempts(), self.metrics()
        last = metrics[-1]["step"] if metrics else 0
        reached = [*(attempt.reached or 0 for attempt in attempts[1:]), last]
        for attempt, end in zip(reversed(attempts), reversed(reached), strict=False):
            if attempt.step < step <= end:
                return attempt.layout
        return ""

    def forget_after(self, step: int, *, evaluations_after: int | None = None) -> None:
        """Drop the metrics of steps that a resumed run repeats.

        Args:
            step: last step to keep.
            evaluations_after: last step whose evaluation to keep; ``step`` by default.
        """
        last = step if evaluations_after is None else evaluations_after
        lines = [
            line
            for line in self.metrics()
            if line["step"] <= (last if "eval_loss" in line else step)
        ]
        text = "".join(documents.dumps(line) + "\n" for line in lines)
        # A run without steps left keeps its modification time.
        if not self._metrics.exists() or self._metrics.read_text(encoding="utf-8") != text:
            self.write(self._metrics.name, text)

    def forget_outcome(self) -> None:
        """Delete the samples from before training, and the result."""
        if self._writes:
            (self.path / BEFORE).unlink(missing_ok=True)
            (self.path / "result.json").unlink(missing_ok=True)

    def finished_steps(self) -> int | None:
        """Return the steps in result.json, which is written last; None if there is none."""
        try:
            content = json.loads((self.path / "result.json").read_bytes())
        except (OSError, ValueError):
            return None
        return content.get("steps") if isinstance(content, dict) else None

    def finish(self, result: Result) -> None:
        """Write result.json."""
        self.write("result.json", documents.dumps(result.to_json(), indent=2) + "\n")


def finished(job: Job, result: Result, *, writes: bool) -> Result:
    """Return the result, after the main process has written it if the job has a directory."""
    if job.directory:
        directory = RunDirectory.of(job, writes=writes)
        directory.describe(job)
        directory.finish(result)
    return result


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return the documents of a JSON Lines file; skip a line truncated by a crash."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError.unwritable(path, error) from error


def what_next(command: str, directories: Iterable[Path]) -> str:
    """Return the advice to go on by a command if a run has a checkpoint, else to start again."""
    parents = (RunDirectory(path, writes=False).checkpoints for path in directories)
    saved = any(store.newest(parent, contents=False).folder for parent in parents)
    return f"{'go on' if saved else 'start again'} with: {command}"
