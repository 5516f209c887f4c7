"""Launcher of a job on several machines over ssh, which ends all when one fails."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence

import attrs

from gpt2dsl import terminal
from gpt2dsl.cluster import control_channel
from gpt2dsl.cluster.hosts import Host
from gpt2dsl.cluster.pipe_reader import PipeReader
from gpt2dsl.cluster.process import CURSOR
from gpt2dsl.cluster.supervisor import STOPPED
from gpt2dsl.errors import Interrupted, RunError
from gpt2dsl.signals import Signals

TICK = 0.1
PATIENCE = 20.0
"""Seconds that machines have to end when told to."""

TAIL, LINES = 65536, 10
"""Bytes kept of the stderr of a machine, and lines of them shown if it fails."""


def launch(hosts: Sequence[Host], commands: Sequence[Sequence[str]]) -> None:
    """Run the command of each machine until all have ended, with the output of the first.

    As ssh does, a command passes its stdin to a supervisor that obeys it (``ControlChannel``), so
    the machines end whenever and however this process does.

    Raises:
        RunError: a machine failed; all others were told to end and have been waited for.
        Interrupted: the user stopped the job, and all machines ended after a step.
        KeyboardInterrupt: the user stopped it twice, or before it had begun.
    """
    with Signals() as signals:
        job = _Launch(signals)
        silent: list[Machine] = []
        try:
            for host, command in zip(hosts, commands, strict=True):
                job.start(host, command)
            failed = job.watch()
        finally:
            silent = job.end()
        job.tell(failed, silent)


class Words:
    """The end of the stderr of a machine; that of the first machine is also shown."""

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown
        self._end = b""

    def take(self, chunk: bytes) -> None:
        self._end = (self._end + chunk)[-TAIL:]
        if self.shown:
            terminal.write(chunk.decode("utf-8", "replace"))

    def last_lines(self) -> list[str]:
        text = CURSOR.sub("", self._end.decode("utf-8", "replace"))
        return [line for line in text.splitlines() if line.strip()][-LINES:]


@attrs.frozen(eq=False)
class Machine:
    """One machine of the job, represented by the ssh process that runs its command."""

    host: Host
    popen: subprocess.Popen[bytes]
    words: Words

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def failed(self) -> bool:
        return self.popen.poll() not in {None, 0, STOPPED}

    def order(self, word: bytes) -> None:
        """Send a command to its supervisor."""
        assert self.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            os.write(self.popen.stdin.fileno(), word + b"\n")

    def how_it_failed(self) -> str:
        """Return its name, exit status and last lines."""
        code = self.popen.returncode
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        last = "".join(f"\n  {self.host.name}: {line}" for line in self.words.last_lines())
        return f"{self.host}: {how}{f'; its last lines:{last}' if last else ''}"


class _Launch:
    def __init__(self, signals: Signals) -> None:
        self._signals, self._passed_on = signals, False
        self._machines: list[Machine] = []
        self._pump = PipeReader()

    def start(self, host: Host, command: Sequence[str]) -> None:
        """Start the command of a machine in its own session, so that Ctrl-C does not reach it."""
        words = Words(shown=host.first == 0)
        stderr = self._pump.add(words.take)
        try:
            popen = subprocess.Popen(  # noqa: S603  # the user's ssh
                command,
                stdin=subprocess.PIPE,
                stdout=None if host.first == 0 else subprocess.DEVNULL,
                stderr=stderr,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise RunError("G2-523", f"{command[0]} can't be started: {error.strerror}") from error
        finally:
            os.close(stderr)
        self._machines.append(Machine(host, popen, words))

    def watch(self) -> Machine | None:
        """Wait until all have ended or one has failed; return the failed one, if any."""
        while any(machine.alive for machine in self._machines):
            self._pump.run(TICK)
            self._heed_signals()
            if failed := self._failed():
                return failed
        return self._failed()

    def end(self) -> list[Machine]:
        """End all machines; return those killed because they did not end in time."""
        self._pump.drain()
        for machine in self._machines:
            machine.words.shown = False  # messages about this stop would be noise
            machine.order(control_channel.END)
        until = time.monotonic() + PATIENCE
        while self._alive() and time.monotonic() < until and self._signals.count < 3:
            self._pump.run(TICK)
        silent = self._alive()
        for machine in silent:
            os.killpg(machine.popen.pid, signal.SIGKILL)
        for machine in self._machines:
            machine.popen.wait()
            assert machine.popen.stdin is not None
            machine.popen.stdin.close()
        self._pump.drain()
        self._pump.close()
        return silent

    def tell(self, failed: Machine | None, silent: Sequence[Machine]) -> None:
        """Raise the error of the job, if it failed or was stopped."""
        if failed and self._passed_on and failed.host.first == 0:
            raise KeyboardInterrupt  # its ranks could not handle the signal yet
        if failed:
            names = ", ".join(machine.host.name for machine in silent)
            unknown = f"\nnot known to have ended: {names}" if silent else ""
            raise RunError("G2-523", f"{failed.how_it_failed()}{unknown}")
        if any(machine.popen.returncode == STOPPED for machine in self._machines):
            raise Interrupted("G2-404", "stopped on all machines")

    def _heed_signals(self) -> None:
        if self._signals.count > 1:
            raise KeyboardInterrupt
        if self._signals.count and not self._passed_on:
            self._passed_on = True
            self._machines[0].order(control_channel.STOP)

    def _alive(self) -> list[Machine]:
        return [machine for machine in self._machines if machine.alive]

    def _failed(self) -> Machine | None:
        return next((machine for machine in self._machines if machine.failed), None)
