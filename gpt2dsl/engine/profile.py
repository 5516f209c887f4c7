"""Operator times of some training steps, from MindSpore's profiler."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from gpt2dsl.engine.callbacks import Callback
from gpt2dsl.terminal import say

if TYPE_CHECKING:
    from gpt2dsl.engine.job import Result

FIRST, STEPS = 3, 5
"""Number of warm-up steps, and of profiled steps."""

SHOWN = 12
"""Number of operators shown."""


class Profile(Callback):
    """A callback that profiles some training steps and prints the slowest operators.

    Args:
        folder: output folder: operator times, and a trace for chrome://tracing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profiler: Any = None
        self._until = 0

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Start the profiler after this process's first steps, and stop it some steps later."""
        if not self._until:
            self._until = step + FIRST + STEPS
        if step == self._until - STEPS:
            self._start()
        elif step == self._until:
            self._stop()

    @override
    def on_end(self, result: Result) -> None:
        """Stop the profiler, or explain why a short run has no profile."""
        if self._profiler:
            self._stop()
        elif not self._until:
            say("not profiled: no step was left to do; train.resume=never starts anew")
        elif result.steps < self._until:
            say(f"not profiled: the run ended within {FIRST} steps of its start")

    def _start(self) -> None:
        from mindspore import profiler  # noqa: PLC0415  # slow, and needed only for profiling

        activities = [profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.NPU]
        self._profiler = profiler.profile(
            activities=activities,
            start_profile=False,
            on_trace_ready=profiler.tensorboard_trace_handler(str(self._folder)),
        )
        self._profiler.start()

    def _stop(self) -> None:
        with _on_stderr():
            self._profiler.stop()
        self._profiler = None
        say(table(self._folder))


@contextmanager
def _on_stderr() -> Iterator[None]:
    """Redirect stdout to stderr: the profiler's processes print, but stdout is for the result."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def table(folder: Path) -> str:
    """Return a table of the slowest operators of the newest profile in a folder.

    Columns: milliseconds per step, share of the total, calls per step, operator type.
    """
    files = sorted(folder.rglob("cpu_op_type_info_*.csv"), key=lambda path: path.stat().st_mtime)
    if not files:
        return f"profile: {folder}"
    with files[-1].open(encoding="utf-8", newline="") as file:
        rows = [
            (float(row["total_compute_time"]), int(row["type_occurrences"]), row["op_type"])
            for row in csv.DictReader(file)
        ]
    total = sum(time for time, _, _ in rows)
    lines = [
        f"{time / STEPS:9.2f} ms {time / total:6.1%} {calls / STEPS:7.0f} x  {name}"
        for time, calls, name in sorted(rows, reverse=True)[:SHOWN]
    ]
    head = f"profile of {STEPS} steps, operators by time a step; all of it is in {folder}"
    return "\n".join([head, *lines])
