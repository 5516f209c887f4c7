"""Counting of signals that ask a job to stop; the reader of the count decides what happens."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from typing_extensions import Self

INSISTENT = (signal.SIGINT, signal.SIGTERM)
"""Signals that count each time: a second one is a second request to stop."""

STOPS = (*INSISTENT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Signals that ask to stop: Ctrl-C, a batch system before its time limit, a closing terminal. Those
not in INSISTENT may repeat for one reason, as both a shell and the kernel send SIGHUP."""

COMPUTING = "generation"
"""Name of the computing thread of a server; no signal interrupts its compilation."""


_INTERRUPTIONS: list[int] = []


def are_ctrl_c() -> None:
    """Make every signal that asks to stop raise KeyboardInterrupt, as Ctrl-C does."""
    _INTERRUPTIONS.clear()
    for number in STOPS:
        if _is_heeded(number):
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # Python's form
    _INTERRUPTIONS.append(number)
    raise KeyboardInterrupt


def have_interrupted() -> bool:
    """Return whether KeyboardInterrupt was raised, which a library may make another error of."""
    return bool(_INTERRUPTIONS)


def _is_heeded(number: signal.Signals) -> bool:
    """Return whether to handle a signal; SIGHUP stays ignored under nohup."""
    return number in INSISTENT or signal.getsignal(number) is not signal.SIG_IGN


class Signals:
    """Context manager that counts the signals instead; effective in the main thread only."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self.note) for number in STOPS if _is_heeded(number)
            }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # Python's form
        """Count a signal; one that may be a repetition counts only if it is the first."""
        if number in INSISTENT or not self.count:
            self.count += 1
