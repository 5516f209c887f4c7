"""The signals that stop a server, from its start on."""

from __future__ import annotations

import signal
from types import FrameType

from typing_extensions import override

from gpt2dsl.engine.progress import say
from gpt2dsl.files import temporary
from gpt2dsl.signals import Signals


class Stop(Signals):
    """A context in which the first signal asks the server to stop; a second ends the process.

    No exception tells of it, since neither MindSpore's import nor the compilation of schemas can be
    interrupted by one. Where the server is all that the process does, ``is_process``, the first
    signal ends it with code 0 until its port answers.
    """

    def __init__(self, *, is_process: bool = False) -> None:
        super().__init__()
        self.is_process = is_process
        self._has_begun = False

    @property
    def is_wanted(self) -> bool:
        return self.count > 0

    def begin(self) -> None:
        """Leave the first signal to the server, which looks at ``is_wanted`` from now on."""
        self._has_begun = True

    def restore(self) -> None:
        """Set the handlers again, after an import that has replaced them."""
        for number in self._before:
            signal.signal(number, self.note)

    @override
    def note(self, number: int, frame: FrameType | None) -> None:
        super().note(number, frame)
        if self.count > 1:
            temporary.end(128 + number)
        if self.is_process and not self._has_begun:
            say("stopped")
            temporary.end(0)
