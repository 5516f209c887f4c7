"""Texts that share a batch: each begins as a place is free, and leaves as it is over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.engine.generation.decoder import Decoder
from gpt2dsl.engine.generation.row import Row


class Slots:
    """The rows of a decoder, each free or with a text.

    Args:
        decoder: whose rows they are; what it held is gone.
        batch: rows.
    """

    def __init__(self, decoder: Decoder, batch: int) -> None:
        self._decoder = decoder
        self._rows: list[Row | None] = [None] * batch

    @property
    def busy(self) -> list[Row]:
        """The texts that are being generated."""
        return [row for row in self._rows if row]

    @property
    def free(self) -> int:
        """Places that are free."""
        return self._rows.count(None)

    def add(self, rows: Sequence[Row]) -> None:
        """Take in prompts and choose their first tokens; no more than there are places.

        A text that is over at once takes none, and neither does one that fails (``Row.failure``).
        """
        if not self.busy:
            self._decoder.reserve(max(row.request.room for row in rows))
        places = [place for place, row in enumerate(self._rows) if row is None][: len(rows)]
        logits = self._decoder.prefill(places, [row.ids for row in rows])
        for place, row, scores in zip(places, rows, logits, strict=True):
            self._rows[place] = row
            self._choose(place, row, scores)

    def step(self) -> list[Row]:
        """One token more for each text; gives them. One that fails (``Row.failure``) is over."""
        ids = [row.ids[-1] if row else 0 for row in self._rows]
        logits = self._decoder.step(np.array(ids, np.int32))
        moved = self.busy
        for place, row in enumerate(self._rows):
            if row:
                self._choose(place, row, logits[place])
        return moved

    def _choose(self, place: int, row: Row, scores: NDArray[np.float32]) -> None:
        """Choose a text's next token; the place of one that is over becomes free."""
        row.take_safely(scores)
        if row.failure:
            self._rows[place] = None
            self._decoder.clear(place)
        elif row.ended:
            self.drop(row)

    def drop(self, row: Row) -> None:
        """Free a text's place, whether it is over or not."""
        place = self._rows.index(row)
        self._rows[place] = None
        self._decoder.release(place)
