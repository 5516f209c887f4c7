"""Dynamic loss scale of float16 training (Micikevicius et al. 2018, section 3.2)."""

from __future__ import annotations

import attrs

FIRST, FACTOR, WINDOW = 2.0**16, 2.0, 1000


@attrs.define
class LossScale:
    """Dynamic loss scale: an overflow halves it, ``WINDOW`` clean steps double it.

    Attributes:
        value: factor on the loss.
        clean: steps without overflow since the last change.
        skipped: steps skipped because of an overflow.
    """

    value: float = FIRST
    clean: int = 0
    skipped: int = 0

    def overflowed(self) -> None:
        """Record a skipped step and lower the scale."""
        self.value = max(1.0, self.value / FACTOR)
        self.clean = 0
        self.skipped += 1

    def passed(self) -> None:
        """Record a completed step; raise the scale after a clean window."""
        self.clean += 1
        if self.clean == WINDOW:
            self.value *= FACTOR
            self.clean = 0
