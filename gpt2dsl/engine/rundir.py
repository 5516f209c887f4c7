"""The directory of a run: what ran, its metrics as they come, its result."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs

from gpt2dsl.data import documents
from gpt2dsl.engine.job import Job, Result
from gpt2dsl.errors import RunError
from gpt2dsl.files import lock
from gpt2dsl.layout.parallel_dims import ParallelDims

BEFORE = "before.json"
"""What the model made of held-out text before training."""


@attrs.frozen(kw_only=True)
class Attempt:
    """A process that trained in a run, from its beginning or on from where one was stopped.

    Attributes:
        time: when its first step began, in UTC, as ISO 8601 has it.
        step: steps that were done before.
        reached: the last step of the one before it, which may have been done after the checkpoint
            that this one went on from; None of one that began the run.
    """

    time: str
    step: int
    reached: int | None = None
    layout: str = ""

    @property
    def again(self) -> int:
        """Steps that were lost, and done again."""
        return max(0, (self.reached or 0) - self.step)


class RunDirectory:
    """``plan.json``, ``recipe.toml``, ``metrics.jsonl``, ``checkpoints/``, ``result.json``."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self._writes = path, writes
        self.checkpoints = path / "checkpoints"
        self._metrics, self._attempts = path / "metrics.jsonl", path / "attempts.jsonl"

    @classmethod
    def of(cls, job: Job, *, writes: bool = True) -> RunDirectory:
        """Return the directory of a job, made if need be.

        A new one is described; one that is there stays what it is until a run goes on in it.

        Args:
            job: has a directory.
            writes: whether this process does; of several ranks one speaks for all.
        """
        assert job.directory is not None
        run = cls(job.directory, writes=writes)
        with _writing(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        if not (run.path / "plan.json").exists():
            run.describe(job)
        return run

    def describe(self, job: Job) -> None:
        """Write the documents that describe what runs; raises as ``write`` does."""
        for name, text in job.documents.items():
            self.write(name, text)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse a second process that would write here; a killed one leaves no lock behind.

        Raises:
            InUseError: another process is running here.
        """
        if not self._writes:
            yield
            return
        with lock.alone(self.path):
            yield

    def write(self, name: str, text: str) -> None:
        """A file, whole or not at all.

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
        """A line of metrics.jsonl; raises as ``write`` does."""
        if not self._writes:
            return
        # The exponential of a loss may be no number any more.
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        with _writing(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
            file.write(documents.dumps(finite) + "\n")

    def metrics(self) -> list[dict[str, float]]:
        """Return the lines of metrics.jsonl; one that a crash cut short is left out."""
        return _lines(self._metrics)

    def attempt(self, step: int, reached: int | None, layout: ParallelDims) -> None:
        """Note in attempts.jsonl that training begins, or goes on; raises as ``write`` does.

        Args:
            step: as in ``Attempt``.
            reached: as in ``Attempt``; None forgets earlier ones.
            layout: of the ranks.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        earlier = [] if reached is None else self.attempts()
        noted = [*earlier, Attempt(time=now, step=step, reached=reached, layout=str(layout))]
        lines = (documents.dumps(attrs.asdict(attempt)) + "\n" for attempt in noted)
        self.write(self._attempts.name, "".join(lines))

    def attempts(self) -> list[Attempt]:
        """What ``attempt`` noted, the first one first; early releases noted none."""
        return [Attempt(**line) for line in _lines(self._attempts)]

    def relaid(self, layout: ParallelDims) -> str:
        """Say that the process that trained here last had another layout; "" where it had not."""
        attempts = self.attempts()
        before = attempts[-1].layout if attempts else ""
        if before in ("", str(layout)):
            return ""
        return f"; {layout}, before {before}: equal but for rounding"

    def forget_after(self, step: int, *, evaluations_after: int | None = None) -> None:
        """Drop the metrics of what a resumed run does again.

        Args:
            step: the last one that counts.
            evaluations_after: the last one whose evaluation counts; ``step`` where it is not given.
        """
        last = step if evaluations_after is None else evaluations_after
        kept = [
            line
            for line in self.metrics()
            if line["step"] <= (last if "eval_loss" in line else step)
        ]
        text = "".join(documents.dumps(line) + "\n" for line in kept)
        # A run that has nothing left to do is as new as it was.
        if not self._metrics.exists() or self._metrics.read_text(encoding="utf-8") != text:
            self.write(self._metrics.name, text)

    def forget_outcome(self) -> None:
        """Drop what the model made of held-out text before training, and what came of it."""
        if self._writes:
            (self.path / BEFORE).unlink(missing_ok=True)
            (self.path / "result.json").unlink(missing_ok=True)

    def finished_steps(self) -> int | None:
        """Return the steps of result.json, which is written last; None where there is none."""
        try:
            content = json.loads((self.path / "result.json").read_bytes())
        except (OSError, ValueError):
            return None
        return content.get("steps") if isinstance(content, dict) else None

    def finish(self, result: Result) -> None:
        """Write result.json."""
        self.write("result.json", documents.dumps(result.to_json(), indent=2) + "\n")


def finished(job: Job, result: Result, *, writes: bool) -> Result:
    """Return the result, written where the job has a directory; of several ranks one writes."""
    if job.directory:
        directory = RunDirectory.of(job, writes=writes)
        directory.describe(job)
        directory.finish(result)
    return result


def _lines(file: Path) -> list[dict[str, Any]]:
    """The documents of a file that has one a line; a line that a crash cut short is left out."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{path}: it can't be written: {error.strerror or error}"
        raise RunError(message) from error
