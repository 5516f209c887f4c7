"""Supervisor of the ranks of a job on one machine, which ends all when one fails."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2dsl.cluster import diagnosis, process
from gpt2dsl.cluster.control_channel import ControlChannel
from gpt2dsl.cluster.hang_detector import HangDetector
from gpt2dsl.cluster.node import (
    Node,
    Timeouts,
    free_port,
    rank_variables,
    refuse_unusable_port,
    scheduler_variables,
    shared_variables,
)
from gpt2dsl.cluster.pipe_reader import PipeReader, Reports, StderrTee
from gpt2dsl.cluster.process import Process
from gpt2dsl.cluster.reports import VARIABLE
from gpt2dsl.errors import Interrupted, RunError
from gpt2dsl.signals import Signals

__all__ = ["STOPPED", "Node", "Timeouts", "free_port", "supervise"]

STOPPED = 3
"""Exit code of a rank that the user stopped after it saved a checkpoint."""

TICK = 0.1
SETTLE = 2.0
"""Seconds to wait for the cause of a failed collective to show."""

SCHEDULER = [sys.executable, "-m", "gpt2dsl.cluster.scheduler"]

OnReport = Callable[[dict[str, Any]], None]


def _ignore(_: dict[str, Any]) -> None:
    pass


def supervise(
    command: Sequence[str],
    node: Node,
    logs: Path,
    limits: Timeouts,
    *,
    environment: Mapping[str, str] | None = None,
    on_report: OnReport = _ignore,
    orders: int | None = None,
) -> None:
    """Run ``command`` once for each rank of this machine, until all have ended.

    Args:
        command: the command of a rank, whose environment has its rank and MindSpore's variables.
        node: the ranks to run and their rendezvous.
        logs: folder of ``rank_N.log`` and ``scheduler.log``.
        limits: timeouts.
        environment: additional environment variables of the ranks.
        on_report: called with each report of a rank (``Reporter``), its ``rank`` included.
        orders: pipe of a launcher's commands (``ControlChannel``).

    Raises:
        RunError: a rank failed, was killed or hung; all others have been ended.
        Interrupted: the user stopped the job, and the ranks ended by themselves.
        KeyboardInterrupt: the user stopped it twice, or before the ranks could handle it.
    """
    with Signals() as signals:
        job = _Job(node, logs, limits, signals, on_report)
        if orders is not None:
            job.obey(orders)
        try:
            job.start(command, environment or {})
            job.watch_ranks()
            job.await_scheduler()
        finally:
            job.end()
        job.tell_if_stopped()


class _Job:
    def __init__(
        self, node: Node, logs: Path, limits: Timeouts, signals: Signals, on_report: OnReport
    ) -> None:
        self._node, self._logs, self._limits = node, logs, limits
        self._signals, self._passed_on = signals, False
        self._on_report = on_report
        self._orders = ControlChannel(signals)
        self._pump = PipeReader()
        self._ranks: list[Process] = []
        self._scheduler: Process | None = None
        self._failed: list[Process] = []
        self._failed_at = 0.0
        self._watch = HangDetector(
            range(node.first, node.first + node.local), limits, time.monotonic()
        )

    def obey(self, orders: int) -> None:
        """Obey the commands of a launcher as signals."""
        self._pump.listen(orders, self._orders.take)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        shared = shared_variables(self._node, self._limits, environment)
        if self._node.schedules:
            refuse_unusable_port(self._node)
            variables = {**shared, **scheduler_variables()}
            self._scheduler = process.start(None, SCHEDULER, variables, self._log("scheduler"))
        for place in range(self._node.local):
            rank = self._node.first + place
            variables = {**shared, **rank_variables(self._node, place)}
            try:
                self._ranks.append(self._start_rank(rank, command, variables))
            except OSError as error:
                raise RunError("G2-501", f"rank {rank} can't be started: {error}") from error

    def _start_rank(self, rank: int, command: Sequence[str], variables: dict[str, str]) -> Process:
        log = self._log(f"rank_{rank}")
        report = self._pump.add(Reports(lambda report: self._note(rank, report)).take)
        variables[VARIABLE] = str(report)
        ends = [report]
        stderr = process.WITH_STDOUT
        if rank == 0:
            stderr = self._pump.add(StderrTee(log).take)
            ends.append(stderr)
            variables |= StderrTee.environment()
        try:
            return process.start(rank, command, variables, log, fds=[report], stderr=stderr)
        finally:
            for end in ends:
                os.close(end)

    def _log(self, name: str) -> Path:
        """Return a new, empty log; keep the previous one, which may show why that run failed."""
        log = self._logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".before.log"))
        log.write_bytes(b"")
        return log

    def _note(self, rank: int, report: dict[str, Any]) -> None:
        self._watch.note(rank, report, time.monotonic())
        self._on_report({**report, "rank": rank})

    def watch_ranks(self) -> None:
        """Wait until all ranks have ended; raise if one fails or hangs."""
        while alive := self._alive():
            self._tick()
            self._raise_if_failed()
            self._raise_if_hung(alive)
        self._raise_if_failed()
        self._pump.drain()

    def await_scheduler(self) -> None:
        """Wait for the scheduler, which ends after the last rank, perhaps on another machine."""
        if self._scheduler is None:
            return
        until = time.monotonic() + self._limits.end
        while self._scheduler.alive and not (self._node.is_whole_job and time.monotonic() > until):
            self._tick()
        if self._scheduler.popen.returncode and not self._node.is_whole_job:
            raise diagnosis.failure(self._scheduler, self._watch)

    def end(self) -> None:
        """End all processes by SIGTERM, then SIGKILL, at once if the user insists."""
        self._on_report = _ignore  # an error of the callback must not prevent cleanup
        everyone = self._everyone()
        until = time.monotonic() + self._limits.end
        if any(member.alive for member in everyone):
            self._send(everyone, signal.SIGTERM)
        while any(member.alive for member in everyone) and time.monotonic() < until:
            if self._signals.count > 1:
                break
            self._pump.run(TICK)
        self._send(everyone, signal.SIGKILL)
        for member in everyone:
            member.popen.wait()
        self._pump.drain()
        self._pump.close()

    def tell_if_stopped(self) -> None:
        """Raise ``Interrupted`` if the ranks ended because the user stopped them."""
        texts = []
        for rank in self._ranks:
            assert rank.rank is not None
            pulse = self._watch.pulses[rank.rank]
            # MindSpore's shutdown may have crashed after the rank reported that it stopped.
            if rank.popen.returncode == STOPPED or (pulse.done and pulse.error):
                texts.append(pulse.error)
        if texts:
            raise Interrupted("G2-404", next(filter(None, texts), "stopped by the user"))

    def _tick(self) -> None:
        self._pump.run(TICK)
        self._orders.insist()
        if self._signals.count > 1:
            raise KeyboardInterrupt
        if self._signals.count and not self._passed_on:
            self._passed_on = True
            # One rank is enough: it tells the others within its step, so that all stop after it.
            self._ranks[0].popen.send_signal(signal.SIGINT)

    def _everyone(self) -> list[Process]:
        return [*self._ranks, *([self._scheduler] if self._scheduler else [])]

    def _alive(self) -> list[Process]:
        return [rank for rank in self._ranks if rank.alive]

    def _raise_if_failed(self) -> None:
        self._note_failed()
        if not self._failed:
            return
        self._pump.drain()
        if self._passed_on and self._ranks[0].popen.returncode in {-signal.SIGINT, 130}:
            raise KeyboardInterrupt
        if causes := diagnosis.causes(self._failed, self._watch):
            raise diagnosis.failure(causes[0], self._watch)
        alive = self._alive()
        if not alive or time.monotonic() > self._failed_at + SETTLE:
            raise diagnosis.failure(self._failed[0], self._watch, alive)

    def _note_failed(self) -> None:
        for member in self._everyone():
            code = member.popen.poll()
            fine = {None, 0, STOPPED} if member.rank is not None else {None, 0}
            if (
                code not in fine
                and member not in self._failed
                and not self._crashed_at_its_end(member)
            ):
                self._failed_at = self._failed_at or time.monotonic()
                self._failed.append(member)

    def _crashed_at_its_end(self, rank: Process) -> bool:
        """Return whether a rank had finished its work when a signal ended it.

        MindSpore's shutdown crashes now and then; by then all files are written.
        """
        if rank.rank is None or rank.popen.returncode >= 0:
            return False
        self._pump.drain()
        return self._watch.pulses[rank.rank].done

    def _raise_if_hung(self, alive: Sequence[Process]) -> None:
        ranks = {member.rank: member for member in alive if member.rank is not None}
        if hung := self._watch.hang(list(ranks), time.monotonic()):
            behind, since = hung
            raise diagnosis.hang([ranks[rank] for rank in behind], since)

    @staticmethod
    def _send(everyone: Sequence[Process], number: signal.Signals) -> None:
        for member in everyone:
            member.signal(number)
