"""Continuous batching: a text joins as soon as a slot is free and leaves once it is over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpt2dsl.engine.generation.decoder import Decoder
from gpt2dsl.engine.generation.row import Row


class Slots:
    """The rows of a decoder, each free or occupied by a text.

    Args:
        decoder: the decoder whose rows are the slots; its previous contents are discarded.
        batch: number of rows.
    """

    def __init__(self, decoder: Decoder, batch: int) -> None:
        self._decoder = decoder
        self._rows: list[Row | None] = [None] * batch

    @property
    def busy(self) -> list[Row]:
        """Texts that are being generated."""
        return [row for row in self._rows if row]

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self._rows.count(None)

    def add(self, rows: Sequence[Row]) -> None:
        """Prefill prompts and choose their first tokens; at most one for each free slot.

        A text that ends at once or fails (``Row.failure``) occupies no slot.
        """
        if not self.busy:
            self._decoder.reserve(max(row.request.room for row in rows))
        places = [place for place, row in enumerate(self._rows) if row is None][: len(rows)]
        logits = self._decoder.prefill(places, [row.ids for row in rows])
        for place, row, scores in zip(places, rows, logits, strict=True):
            self._rows[place] = row
            self._choose(place, row, scores)

    def step(self) -> list[Row]:
        """Generate a token for each text and return the texts; failures set ``Row.failure``."""
        ids = [row.ids[-1] if row else 0 for row in self._rows]
        logits = self._decoder.step(np.array(ids, np.int32))
        moved = self.busy
        for place, row in enumerate(self._rows):
            if row:
                self._choose(place, row, logits[place])
        return moved

    def _choose(self, place: int, row: Row, scores: NDArray[np.float32]) -> None:
        """Choose a text's next token, and free the slot of a text that is over."""
        row.take_safely(scores)
        if row.failure:
            self._rows[place] = None
            self._decoder.clear(place)
        elif row.ended:
            self.drop(row)

    def drop(self, row: Row) -> None:
        """Free a text's slot, finished or not."""
        place = self._rows.index(row)
        self._rows[place] = None
        self._decoder.release(place)
