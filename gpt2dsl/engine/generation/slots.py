"""Texts that share a batch: each begins as a place is free, and leaves as it is over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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

        A text that is over at once takes none.
        """
        if not self.busy:
            self._decoder.reserve(max(row.request.room for row in rows))
        places = [place for place, row in enumerate(self._rows) if row is None][: len(rows)]
        logits = self._decoder.prefill(places, [row.ids for row in rows])
        for place, row, scores in zip(places, rows, logits, strict=True):
            row.take(scores)
            if row.ended:
                self._decoder.release(place)
            else:
                self._rows[place] = row

    def step(self) -> list[Row]:
        """One token more for each text; gives them."""
        ids = [row.ids[-1] if row else 0 for row in self._rows]
        logits = self._decoder.step(np.array(ids, np.int32))
        moved = self.busy
        for place, row in enumerate(self._rows):
            if row:
                row.take(logits[place])
                if row.ended:
                    self.drop(row)
        return moved

    def drop(self, row: Row) -> None:
        """Free a text's place, whether it is over or not."""
        place = self._rows.index(row)
        self._rows[place] = None
        self._decoder.release(place)
