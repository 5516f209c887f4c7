"""Counts signals that ask a job to stop; whoever reads the count decides what happens."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from typing_extensions import Self

INSISTENT = (signal.SIGINT, signal.SIGTERM)
"""Signals that mean what they say: a second one is no echo of the first."""

STOPS = (*INSISTENT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Signals that ask to stop: Ctrl-C, a batch system before its time is up, a closing terminal. The
others may come several times for one reason, as a shell and the kernel both send SIGHUP."""

COMPUTING = "generation"
"""Name of the thread in which a server computes: no signal interrupts what it compiles."""


def are_ctrl_c() -> None:
    """Make every signal that asks to stop do what Ctrl-C does: clean up, and end."""
    for number in STOPS:
        if _is_heeded(number):
            signal.signal(number, signal.default_int_handler)


def _is_heeded(number: signal.Signals) -> bool:
    """Return whether a signal is to be handled; nohup has SIGHUP ignored."""
    return number in INSISTENT or signal.getsignal(number) is not signal.SIG_IGN


class Signals:
    """A block in which the signals are only counted; it has an effect in the main thread only."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self.note) for number in STOPS if _is_heeded(number)
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # Python's form
        """Count a signal; one that may be an echo counts only where it is the first."""
        if number in INSISTENT or not self.count:
            self.count += 1
