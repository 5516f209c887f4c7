"""One process of a job: started so that it can't outlive the supervisor, ended with its group."""

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
"""What MindSpore says at its end whatever GLOG_v is."""
ERROR = re.compile(r"[A-Za-z_.]*(Error|Exception)(:|$)")
"""Where a traceback says what happened; MindSpore's goes on for dozens of lines after it."""
CURSOR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
"""Colours, and moves of a terminal's cursor."""


@attrs.frozen(eq=False)
class Process:
    """A rank or the scheduler.

    Attributes:
        rank: its rank; None is the scheduler.
        log: where its output goes.
        popen: the process.
    """

    rank: int | None
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """As a user calls it."""
        return "the scheduler" if self.rank is None else f"rank {self.rank}"

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send to the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def how_it_ended(self) -> str:
        """``killed by SIGKILL`` or ``exit code 1``."""
        code = self.popen.returncode
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"

    def last_lines(self, count: int = 5) -> list[str]:
        """The end of its log from the error that ended it, without empty lines and chatter."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 65536))
            text = CURSOR.sub("", CHATTER.sub("", file.read().decode("utf-8", "replace")))
        lines = [line.rstrip() for line in text.splitlines() if line.strip(" -")][-60:]
        raised = [place for place, line in enumerate(lines) if ERROR.match(line)]
        if raised and (self.popen.returncode or 0) > 0:
            return lines[raised[-1] :][:count]
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
    """Start in a session of its own: the terminal's Ctrl-C reaches the supervisor only."""
    with log.open("ab") as file:
        popen = subprocess.Popen(  # noqa: S603  # our own program
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=stderr,
            start_new_session=True,
            pass_fds=fds,
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  # see there
        )
    return Process(rank, log, popen)


def _die_with(supervisor: int) -> Callable[[], None] | None:
    """Have the kernel kill this process when its supervisor is gone.

    Why not a thread that watches a pipe: it needs the GIL, which a compiling MindSpore keeps, and
    a worker that knows of it. What runs between fork and exec is one call into libc, loaded
    before, and the supervisor starts no threads: nothing here can wait for a lost lock.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def before_exec() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it died before it was asked for
            os._exit(1)

    return before_exec
