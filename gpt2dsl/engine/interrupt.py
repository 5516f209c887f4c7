"""Ctrl-C (and SIGTERM) as a wish to stop after the step that is under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from typing_extensions import override

from gpt2dsl.cluster.signals import Signals
from gpt2dsl.engine.progress import say


class StopRequest(Signals):
    """Within this block the first signal sets ``wanted``; a second one ends the process at once."""

    @property
    def wanted(self) -> bool:
        """Whether the user wants to stop."""
        return self.count > 0

    @override
    def note(self, number: int, frame: FrameType | None) -> None:
        super().note(number, frame)
        if self.count > 1:
            raise KeyboardInterrupt
        say("stopping after this step, with a checkpoint; once more to stop at once")


@contextmanager
def held() -> Iterator[None]:
    """Within this block Ctrl-C waits for the end of it, and is Python's own again afterwards.

    Why: MindSpore's import can't be interrupted without damage, and it leaves a handler of its own
    that ends the process without a word.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    noted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted:
        raise KeyboardInterrupt
