"""Diagnosis of a failed job: the process that caused it, and a single message."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Sequence

from gpt2dsl.cluster.hang_detector import HangDetector
from gpt2dsl.cluster.process import Process
from gpt2dsl.errors import RunError

COLLECTIVE = re.compile(
    r"AllReduce|AllGather|ReduceScatter|Broadcast|collective|Kill this process with SIGTERM",
    re.IGNORECASE,
)
"""Pattern in the last output of a rank that failed because another rank did."""


def causes(failed: Sequence[Process], watch: HangDetector) -> list[Process]:
    """Return the processes that did not fail because of another, likeliest cause first.

    The scheduler is last: it ends long after a rank of this machine is lost, but it is the first
    to detect the loss of a rank on another machine.
    """
    return sorted(
        (process for process in failed if not _victim(process, watch)),
        key=lambda candidate: (
            candidate.rank is None,
            not _killed(candidate),
            not _error(candidate, watch),
        ),
    )


def failure(process: Process, watch: HangDetector, waited_for: Sequence[Process] = ()) -> RunError:
    """Return the error of a failed process; ``waited_for`` still run and may be the cause."""
    error = _error(process, watch)
    message = f"{_who(process)}: {process.how_it_ended()}{f': {error}' if error else ''}"
    if waited_for:
        message += f"; still waited for: {', '.join(map(_who, waited_for))}"
    if not error:
        message += _log(process)
    return RunError("G2-501", message)


def hang(behind: Sequence[Process], since: str) -> RunError:
    """Return the error of a hang: from outside, a hung rank looks like those that wait for it."""
    message = f"{' or '.join(map(_who, behind))}: {since}"
    return RunError("G2-502", f"{message}{''.join(map(_log, behind[:3]))}")


def _victim(process: Process, watch: HangDetector) -> bool:
    if _killed(process) or process.rank is None:
        return False
    words = _error(process, watch) or "\n".join(process.last_lines(20))
    return COLLECTIVE.search(words) is not None


def _killed(process: Process) -> bool:
    # MindSpore's heartbeat ends a rank by SIGTERM when another one is lost.
    return process.popen.returncode < 0 and process.popen.returncode != -signal.SIGTERM


def _error(process: Process, watch: HangDetector) -> str:
    return "" if process.rank is None else watch.pulses[process.rank].error


def _who(process: Process) -> str:
    return f"{process.name} ({socket.gethostname()}, pid {process.popen.pid})"


def _log(process: Process) -> str:
    lines = process.last_lines()
    if not lines:
        return f"; {process.log} is empty"
    return "".join([f"; the end of {process.log}:", *(f"\n  {line}" for line in lines), "\n"])
