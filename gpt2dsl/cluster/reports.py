"""What a rank tells its supervisor: lines of JSON through a pipe that it inherits."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from typing_extensions import Self

VARIABLE = "GPT2DSL_REPORT_FD"


class Reporter:
    """The worker's side. Without a supervisor it tells nothing."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @classmethod
    def from_environment(cls) -> Self:
        """Return the supervisor's pipe, where there is one."""
        number = os.environ.get(VARIABLE)
        if number is None:
            return cls(None)
        os.set_inheritable(int(number), False)
        return cls(int(number))

    @property
    def is_heard(self) -> bool:
        """Whether there is a supervisor."""
        return self._fd is not None

    def step(self, number: int) -> None:
        """A step is done. From the second on, their absence is taken for a hang."""
        self.other({"kind": "step", "step": number})

    def phase(self, what: str, *, long: bool) -> None:
        """Something else begins; a long phase lasts until the next step or phase of this rank."""
        self.other({"kind": "phase", "what": what, "long": long})

    def error(self, text: str) -> None:
        """Why this rank is about to end."""
        self.other({"kind": "error", "text": text})

    def done(self) -> None:
        """No more steps will come; only the process's end."""
        self.other({"kind": "done"})

    def other(self, report: Mapping[str, object]) -> None:
        """Any report; those of a kind unknown here are for the supervisor's caller."""
        if self._fd is None:
            return
        line = json.dumps(dict(report)).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except BrokenPipeError:
            self._fd = None
