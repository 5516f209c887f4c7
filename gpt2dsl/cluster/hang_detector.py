"""Detection of hung ranks from their heartbeats: the reports that they send."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import attrs

from gpt2dsl.cluster.node import Timeouts


@attrs.define
class Pulse:
    """The state of one rank according to its reports.

    Attributes:
        at: time of its last step or phase report.
        step: the last step that it reported.
        steps: number of steps that it reported.
        stepping: whether its last report was a step.
        done: whether no more steps will come.
    """

    at: float
    step: int = -1
    steps: int = 0
    stepping: bool = False
    long: bool = False
    done: bool = False
    error: str = ""

    @property
    def watched(self) -> bool:
        """Whether silence indicates a hang; the first step is reported after compilation."""
        return self.steps > 1 or self.done


class HangDetector:
    """Detector of hung ranks from the reports of all ranks."""

    def __init__(self, ranks: Collection[int], limits: Timeouts, now: float) -> None:
        self.pulses = {rank: Pulse(now) for rank in ranks}
        self._limits = limits
        self._pauses: deque[float] = deque(maxlen=1000)
        self._resumed = now

    def note(self, rank: int, report: Mapping[str, Any], now: float) -> None:
        """Update the state of a rank with a report."""
        pulse = self.pulses[rank]
        match report.get("kind"):
            case "error":
                pulse.error = str(report.get("text", ""))
                return
            case "step":
                self._step(pulse, int(report.get("step", 0)), now)
            case "phase":
                self._leave(pulse, now)
                pulse.stepping, pulse.long = False, bool(report.get("long"))
            case "done":
                self._leave(pulse, now)
                pulse.done = True
            case _:
                return
        pulse.at = now

    def _step(self, pulse: Pulse, step: int, now: float) -> None:
        if pulse.stepping:
            self._pauses.append(now - pulse.at)
        self._leave(pulse, now)
        pulse.step, pulse.steps, pulse.stepping = step, pulse.steps + 1, True

    def _leave(self, pulse: Pulse, now: float) -> None:
        # The others have waited for this rank, so their time restarts too.
        if pulse.long:
            pulse.long, self._resumed = False, now

    def quiet(self, rank: int, now: float) -> float:
        """Return the seconds since the last report of a rank or the end of a long phase."""
        return now - max(self.pulses[rank].at, self._resumed)

    def hang(self, alive: Collection[int], now: float) -> tuple[list[int], str] | None:
        """Return the ranks that may be hung and a description of the silence, or None.

        If one hangs, the others wait for it, so it is among those with the fewest steps.
        """
        if any(self.pulses[rank].long for rank in alive):
            return None
        # A finished rank waits for the others: its end is overdue only once all have finished.
        working = [rank for rank in alive if not self.pulses[rank].done] or alive
        watched = [rank for rank in working if self.pulses[rank].watched]
        late = [rank for rank in watched if self.quiet(rank, now) > self._limits.least]
        if not late:
            return None
        median = statistics.median(self._pauses or [0.0])
        late = [rank for rank in late if self.quiet(rank, now) > self._limits.hang * median]
        if not late:
            return None
        # Not only late ranks: the first to fall silent may be waiting for another.
        last = min(self.pulses[rank].step for rank in watched)
        behind = [rank for rank in watched if self.pulses[rank].step == last]
        return behind, self._since(min(behind, key=self._told), median, now)

    def _told(self, rank: int) -> float:
        return self.pulses[rank].at

    def _since(self, rank: int, median: float, now: float) -> str:
        pulse, quiet = self.pulses[rank], self.quiet(rank, now)
        if pulse.done:
            return f"not ended {quiet:.0f} s after its work was done"
        times = f", {quiet / median:.0f} times the median" if median else ""
        return f"no step for {quiet:.0f} s{times} (the last: {pulse.step})"
