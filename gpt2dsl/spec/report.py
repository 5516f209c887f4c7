"""Report of all faults of a spec, in columns."""

from __future__ import annotations

from collections.abc import Sequence

from gpt2dsl.columns import left, width
from gpt2dsl.errors import Fault, counted


def report(faults: Sequence[Fault]) -> str:
    """Return a line per fault (origin, key, message, code), sorted, and their number."""
    rows = [
        (fault.origin, fault.key, fault.message, f"[{fault.code}]")
        for fault in sorted(faults, key=lambda fault: fault.order)
    ]
    widths = [
        min(max(width(row[i]) for row in rows), limit) for i, limit in enumerate((40, 36, 90))
    ]
    lines = [
        "  ".join((*(left(word, w) for word, w in zip(row, widths, strict=False)), row[3])).strip()
        for row in rows
    ]
    return "\n".join([*lines, counted(len(rows), "fault")])
