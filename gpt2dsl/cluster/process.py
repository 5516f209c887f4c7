"""One process of a job, which can't outlive the supervisor and ends with its process group."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

PR_SET_PDEATHSIG = 1
WITH_STDOUT = subprocess.STDOUT
CHATTER = re.compile(r"^\[INFO\] [^\n]*\n?", re.MULTILINE)
"""Messages that MindSpore prints at exit whatever GLOG_v is."""
ERROR = re.compile(r"[A-Za-z_.]*(Error|Exception)(:|$)")
"""Line of a traceback with the exception; MindSpore appends dozens of lines to it."""
CURSOR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
"""ANSI sequences: colours and cursor movements."""


@attrs.frozen(eq=False)
class Process:
    """A rank, or the scheduler, whose rank is None."""

    rank: int | None
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        return "the scheduler" if self.rank is None else f"rank {self.rank}"

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def how_it_ended(self) -> str:
        """Return its exit status as text: ``killed by SIGKILL`` or ``exit code 1``."""
        code = self.popen.returncode
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def last_lines(self, count: int = 5) -> list[str]:
        """Return the end of its log from the last exception, without empty lines and chatter."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 65536))
            text = CURSOR.sub("", CHATTER.sub("", file.read().decode("utf-8", "replace")))
        lines = [line.rstrip() for line in text.splitlines() if line.strip(" -")][-60:]
        errors = [i for i, line in enumerate(lines) if ERROR.match(line)]
        if errors and (self.popen.returncode or 0) > 0:
            return lines[errors[-1] :][:count]
        return lines[-count:]


def start(
    rank: int | None,
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    fds: Sequence[int] = (),
    stderr: int = WITH_STDOUT,
) -> Process:
    """Start a process in its own session, so that Ctrl-C reaches the supervisor only."""
    with log.open("ab") as file:
        popen = subprocess.Popen(  # noqa: S603  # our own program
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=stderr,
            start_new_session=True,
            pass_fds=fds,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  # safe: see _die_with
        )
    return Process(rank, log, popen)


def _die_with(supervisor: int) -> Callable[[], None] | None:
    """Return a function that has the kernel kill this process when its supervisor is gone.

    A thread that watches a pipe would need the GIL, which MindSpore keeps while it compiles, and
    the cooperation of the worker. Between fork and exec only one function of libc is called, which
    is loaded before, and the supervisor starts no threads: nothing can wait for a lost lock.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def before_exec() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # the supervisor died before prctl took effect
            os._exit(1)

    return before_exec
