"""Ctrl-C and the signals of batch systems and closing terminals, as a wish to stop after a step."""

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
    """Within this block the first signal sets ``wanted``; a second one ends the process at once."""

    @property
    def wanted(self) -> bool:
        """Whether the user wants to stop."""
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
    """Make Ctrl-C and its kin wait for the end of this block, and be Python's own again afterwards.

    Why: MindSpore's import can't be interrupted without damage, and it leaves a handler of its own
    that ends the process without a word.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    # What ends the process without any Python may do so now as well.
    held = {number: handler for number, handler in before.items() if callable(handler)}
    noted: list[int] = []
    for number in held:
        signal.signal(number, lambda number, _: noted.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    if noted:
        raise KeyboardInterrupt
