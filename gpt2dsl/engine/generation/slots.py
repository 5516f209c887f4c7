"""Texts that share a batch: each begins as a place is free, and leaves as it is over."""

from __future__ import annotations

import numpy as np

from gpt2dsl.engine.generation.row import Row
from gpt2dsl.model.decoding import Decoder

RESERVED = 256
"""Tokens for which caches have room from the start, where so many are allowed."""


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
    def is_full(self) -> bool:
        """Whether another text has to wait."""
        return all(self._rows)

    def add(self, row: Row) -> None:
        """Take in a prompt and choose its first token; one that is over at once takes no place."""
        if not self.busy:
            longest = min(row.request.ending.longest, RESERVED)
            self._decoder.reserve(max(len(row.ids), longest))
        place = self._rows.index(None)
        row.take(self._decoder.prefill(place, row.ids))
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
