"""Rows that can't be used: skipped with a message up to a number, refused beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from gpt2dsl.errors import Fault, SpecError, some


class BadRowError(Exception):
    """An unusable row; the message is the reason.

    Attributes:
        kind: the same for rows with the same fault, whatever their values.
        value: what every such row is told with; "" where the first row's is enough.
    """

    def __init__(self, message: str, kind: str = "", value: str = "") -> None:
        super().__init__(message)
        self.kind, self.value = kind or message, value


@attrs.frozen
class BadRow:
    """An unusable row; see BadRowError."""

    line: int
    why: str
    kind: str
    value: str = ""


class BadRows:
    """Unusable rows: up to ``borne`` are skipped with a message, more are an error."""

    SHOWN = 20
    """Most faults that are listed."""

    def __init__(self, borne: int) -> None:
        self._borne, self._count = borne, 0
        self._rows: dict[tuple[Path, str], list[BadRow]] = {}
        self._reads_on = True

    @property
    def too_many(self) -> bool:
        """Whether there are more than ``borne``."""
        return self._count > self._borne

    def note(self, path: Path, row: BadRow) -> bool:
        """Add a row and return whether to read on."""
        self._count += 1
        self._rows.setdefault((path, row.kind), []).append(row)
        self._reads_on = self._count < self._borne + self.SHOWN
        return self._reads_on

    def refuse(self) -> None:
        """Refuse too many bad rows; rows with the same fault are listed together.

        Raises:
            SpecError: there are more than ``borne`` (G2-309).
        """
        if not self.too_many:
            return
        faults = self._faults()
        cure = f"data.max_bad_rows = {self._count} passes over as many"
        if not self._reads_on:
            cure = "there may be more: no row after these was read"
        faults[-1] = attrs.evolve(faults[-1], message=f"{faults[-1].message}; {cure}")
        raise SpecError(faults)

    def words(self) -> tuple[str, ...]:
        """Return a message per fault, with all rows that have it."""
        return tuple(f"{fault.origin}: {fault.message}" for fault in self._faults())

    def _faults(self) -> list[Fault]:
        return [
            Fault("G2-309", f"{path}:{bad[0].line}", "", f"{bad[0].why}{_others(bad)}")
            for (path, _), bad in self._rows.items()
        ]


def _others(bad: Sequence[BadRow]) -> str:
    """Return a suffix with the lines after the first that have the same fault."""
    lines = [str(row.line) for row in bad[1:]]
    if not lines:
        return ""
    values = list(dict.fromkeys(row.value for row in bad if row.value != bad[0].value))
    also = f" ({some(values)})" if values else ""
    return f"; {'line' if len(lines) == 1 else 'lines'} {some(lines)} likewise{also}"
