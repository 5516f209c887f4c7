"""The directory of a run: what ran, its metrics as they come, its result."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2dsl.engine.job import Job, Result
from gpt2dsl.errors import RunError


class RunDirectory:
    """``plan.json``, ``recipe.toml``, ``metrics.jsonl``, ``checkpoints/``, ``result.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"

    @classmethod
    def of(cls, job: Job) -> RunDirectory:
        """The directory of a job, made if need be, with the documents that describe the run."""
        assert job.directory is not None
        run = cls(job.directory)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            for name, text in job.documents.items():
                run.write(name, text)
        except OSError as error:
            raise RunError(f"{run.path}: can't be written: {error.strerror}") from None
        return run

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Refuses a second process that would write here; a killed one leaves no lock behind.

        Raises:
            RunError: another process is running here.
        """
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(
                    f"{self.path}: this recipe is running here already; wait for it, or say "
                    "another runtime.output [G2-402]"
                ) from None
            yield

    def write(self, name: str, text: str) -> None:
        """A file, whole or not at all."""
        unfinished = self.path / f".{name}.tmp"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(self.path / name)

    def log(self, **metrics: float) -> None:
        """A line of metrics.jsonl."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl; one that a crash cut short is left out."""
        if not self._metrics.exists():
            return []
        lines = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run does again."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def finish(self, result: Result) -> None:
        """Write result.json."""
        self.write("result.json", json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n")
