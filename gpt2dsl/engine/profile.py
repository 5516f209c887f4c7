"""What some steps spent their time on, from MindSpore's profiler."""

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
"""Steps that are left to warm up, and steps that are profiled."""

SHOWN = 12
"""Operators that are shown."""


class Profile(Callback):
    """Profiles some steps of a training, and says which operators took the time.

    Args:
        folder: gets the profiler's files: operator times, and a trace for chrome://tracing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profiler: Any = None
        self._until = 0

    @override
    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Start after the first steps of this process, and stops some later."""
        if not self._until:
            self._until = step + FIRST + STEPS
        if step == self._until - STEPS:
            self._start()
        elif step == self._until:
            self._stop()

    @override
    def on_end(self, result: Result) -> None:
        """A short run ends before that."""
        if self._profiler:
            self._stop()
        elif not self._until:
            say("not profiled: no step was left to do; train.resume=never starts anew")
        elif result.steps < self._until:
            say(f"not profiled: the run ended within {FIRST} steps of its start")

    def _start(self) -> None:
        from mindspore import profiler  # noqa: PLC0415  # slow, and only where it is asked for

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
    """Yield the profiler and its processes print on stdout, which is the result's."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def table(folder: Path) -> str:
    """Return the operators that took the most time, of the newest profile in a folder.

    Of the columns: milliseconds a step, the share of all operators, calls a step, the type.
    """
    found = sorted(folder.rglob("cpu_op_type_info_*.csv"), key=lambda path: path.stat().st_mtime)
    if not found:
        return f"profile: {folder}"
    with found[-1].open(encoding="utf-8", newline="") as file:
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
