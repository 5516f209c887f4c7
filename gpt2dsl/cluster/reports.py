"""Reports from a rank to its supervisor: lines of JSON through an inherited pipe."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from typing_extensions import Self

VARIABLE = "GPT2DSL_REPORT_FD"


class Reporter:
    """The worker's end of the pipe, which does nothing without a supervisor."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @classmethod
    def from_environment(cls) -> Self:
        """Return a reporter on the supervisor's pipe, if the environment names one."""
        number = os.environ.get(VARIABLE)
        if number is None:
            return cls(None)
        os.set_inheritable(int(number), False)
        return cls(int(number))

    @property
    def is_heard(self) -> bool:
        """Whether a supervisor is listening."""
        return self._fd is not None

    def step(self, number: int) -> None:
        """Report a finished step. After the second one, silence counts as a hang."""
        self.other({"kind": "step", "step": number})

    def phase(self, what: str, *, long: bool) -> None:
        """Report the start of a phase; a long one lasts until the rank's next step or phase."""
        self.other({"kind": "phase", "what": what, "long": long})

    def error(self, text: str) -> None:
        """Report why this rank is about to end."""
        self.other({"kind": "error", "text": text})

    def done(self) -> None:
        """Report that no more steps will come, only the end of the process."""
        self.other({"kind": "done"})

    def other(self, report: Mapping[str, object]) -> None:
        """Send a report; kinds unknown to the supervisor are meant for its caller."""
        if self._fd is None:
            return
        line = json.dumps(dict(report)).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except BrokenPipeError:
            self._fd = None
