"""The dynamic loss scale of float16 training (Micikevicius et al. 2018, section 3.2)."""

from __future__ import annotations

import attrs

FIRST, FACTOR, WINDOW = 2.0**16, 2.0, 1000


@attrs.define
class LossScale:
    """The scale: an overflow halves it, a window of clean steps doubles it.

    Attributes:
        value: what the loss is multiplied with.
        clean: steps without an overflow since the last change.
        skipped: steps that an overflow made skip.
    """

    value: float = FIRST
    clean: int = 0
    skipped: int = 0

    def overflowed(self) -> None:
        """A step was skipped."""
        self.value = max(1.0, self.value / FACTOR)
        self.clean = 0
        self.skipped += 1

    def passed(self) -> None:
        """A step was done."""
        self.clean += 1
        if self.clean == WINDOW:
            self.value *= FACTOR
            self.clean = 0
