"""Slots of a server: prompts come in a chunk at a time, between the steps of other texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from mindspore import Tensor
from typing_extensions import override

from gpt2dsl.engine.generation.prefixes import PrefixCache
from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.generation.slots import Slots
from gpt2dsl.model.chunk import CHUNK
from gpt2dsl.model.chunked_prefill import ChunkedPrefill
from gpt2dsl.model.decoding import Decoder


class ChunkedSlots(Slots):
    """Slots that take in one prompt at a time, and know prompts that begin alike.

    A text is the same to the bit whatever is generated beside it, and whether the beginning of its
    prompt was known or not: a chunk's keys and values depend on nothing but its tokens and those
    before it, and a row of a step on nothing but its own. Texts of several adapters share the
    places; a step is one of each network that has texts.

    Args:
        decoder: whose rows they are; what it held is gone.
        batch: rows.
        prefill: takes in prompts.
        prefixes: what is kept of prompts.
        adapters: names of those that texts may ask for.

    Attributes:
        taking: the text whose prompt is being taken in; None where there is none.
        cached_tokens: tokens of prompts that were known, since the beginning.
        prefilled_tokens: tokens of prompts that were computed, likewise.
    """

    _decoder: Decoder

    def __init__(
        self,
        decoder: Decoder,
        batch: int,
        prefill: ChunkedPrefill,
        prefixes: PrefixCache,
        adapters: Sequence[str] = (),
    ) -> None:
        super().__init__(decoder, batch)
        self._prefill, self.prefixes, self._adapters = prefill, prefixes, adapters
        self.taking: Row | None = None
        self._taken = 0
        self._unscored: Tensor | None = None
        self.cached_tokens = self.prefilled_tokens = 0

    def warm_up(self, *, all_lengths: bool = True) -> Iterator[str]:
        """Compile graphs before anyone waits for them; says before each what it is for.

        Args:
            all_lengths: whether texts of any length find theirs; else short ones.
        """
        lengths = self._decoder.lengths if all_lengths else self._decoder.lengths[:1]
        for adapter in ("", *self._adapters):
            of = f" of {adapter}" if adapter else ""
            yield f"prompts{of}"
            hidden = self._prefill.take([0], 0, adapter)
            self._prefill.logits(hidden, 0, adapter)
            self._prefill.all_logits(hidden, adapter)
            for length in lengths:
                yield f"texts{of} of up to {length} tokens"
                self._decoder.reserve(length)
                self._decoder.adopt(0, self._prefill.prompt(1), 1)
                # the first step of a graph takes a second more than later ones
                self._decoder.step(np.zeros(len(self._rows), np.int32), [0], adapter)
                self._decoder.release(0)

    def begin(self, row: Row) -> None:
        """Start to take in a prompt, after what is known of it; a place must be free."""
        if not self.busy:
            self._decoder.reserve(row.request.room)
        self.taking, self._taken, self._unscored = row, 0, None
        if row.request.scores_prompt:  # which needs the logits of every token
            return
        # the last token is computed in any case, for what comes after it
        if kept := self.prefixes.find(row.request.ids[:-1], row.request.adapter):
            self._prefill.restore(kept)
            self._taken = len(kept) * CHUNK
            self.cached_tokens += self._taken

    def advance(self) -> Row | None:
        """Take in the next chunk, or score it where that was asked for, which takes as long.

        Returns:
            The text once its first token is chosen, or it failed.
        """
        row = self.taking
        assert row
        try:
            self._advance(row)
        except Exception as error:  # noqa: BLE001  # other texts go on
            row.failure = error
        if row.failure:
            self._prefill.clear()
        if self.taking and not row.failure:
            return None
        self.taking = None
        return row

    def _advance(self, row: Row) -> None:
        prompt, adapter = row.request.ids, row.request.adapter
        if (hidden := self._unscored) is None:
            hidden = self._take_chunk(prompt, adapter)
            if row.request.scores_prompt:
                self._unscored = hidden
                return
        else:
            self._unscored = None
            start = (self._taken - 1) // CHUNK * CHUNK
            row.score_prompt(self._prefill.all_logits(hidden, adapter), start)
        if self._taken < len(prompt):
            return
        self.taking = None
        if not row.request.generates:
            row.finish()
            return
        row.take(self._prefill.logits(hidden, (len(prompt) - 1) % CHUNK, adapter))
        if not row.ended:
            place = self._rows.index(None)
            held = self._prefill.prompt(len(prompt))
            self._decoder.adopt(place, held, len(prompt))
            self._rows[place] = row

    def _take_chunk(self, prompt: Sequence[int], adapter: str) -> Tensor:
        """Take in the next chunk, and return its hidden states."""
        start = self._taken
        chunk = prompt[start : start + CHUNK]
        hidden = self._prefill.take(chunk, start, adapter)
        self.prefilled_tokens += len(chunk)
        self._taken += len(chunk)
        if len(chunk) == CHUNK and not self.prefixes.knows(prompt[: self._taken], adapter):
            self.prefixes.keep(prompt[: self._taken], self._prefill.kept(start), adapter)
        return hidden

    @override
    def step(self) -> list[Row]:
        moved = self.busy
        for adapter in dict.fromkeys(row.request.adapter for row in moved):
            mine = {
                place: row
                for place, row in enumerate(self._rows)
                if row and row.request.adapter == adapter
            }
            ids = np.zeros(len(self._rows), np.int32)
            ids[list(mine)] = [row.ids[-1] for row in mine.values()]
            logits = self._decoder.step(ids, list(mine), adapter)
            for place, row in mine.items():
                self._choose(place, row, logits[place])
        return moved

    def drop(self, row: Row) -> None:
        """Free a text's place, whether it is over or not; or take in its prompt no further."""
        if row is self.taking:
            self.taking = None
            self._prefill.clear()
        else:
            super().drop(row)

    def clear(self) -> None:
        """Free all places."""
        self.taking = None
        for row in self.busy:
            super().drop(row)
