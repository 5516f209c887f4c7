"""Ctrl-C and the stop signals of batch systems and terminals, as a request to stop cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from typing_extensions import override

from gpt2dsl.signals import STOPS, Signals
from gpt2dsl.terminal import say


class StopRequest(Signals):
    """A context in which the first signal sets ``wanted`` and a second one interrupts at once."""

    @property
    def wanted(self) -> bool:
        """True once the user has asked to stop."""
        return self.count > 0

    @override
    def note(self, number: int, frame: FrameType | None) -> None:
        before = self.count
        super().note(number, frame)
        if self.count > 1:
            raise KeyboardInterrupt
        if self.count > before:
            say("stopping after this step, with a checkpoint; Ctrl-C once more stops at once")


@contextmanager
def held() -> Iterator[None]:
    """Defer Ctrl-C and other stop signals to the end of this block, to the handlers of its start.

    MindSpore's import can't be interrupted safely, and installs a handler that ends the process
    without a message.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    # Signals without a Python handler end the process as before.
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    received: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for came in received:
        signal.raise_signal(came)
