"""Batch slots of a server: prompts are prefilled in chunks between decoding steps."""

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
from gpt2dsl.model.decoding import KVCacheDecoder


class ChunkedSlots(Slots):
    """Slots with chunked prefill of one prompt at a time, and prefix caching.

    A text is bit-identical whatever is generated beside it and whether or not a prefix of its
    prompt was cached: a chunk's keys and values depend only on its own and earlier tokens, and a
    row of a decoding step only on itself. Texts of several adapters share the slots; a step runs
    each network that has texts once.

    Args:
        decoder: the decoder whose rows are the slots; its previous contents are discarded.
        batch: number of rows.
        prefill: computes the keys and values of prompts.
        prefixes: the prefix cache.
        adapters: names of the adapters that texts may request.

    Attributes:
        taking: the text whose prompt is being prefilled; None without one.
        cached_tokens: prompt tokens found in the prefix cache, since the start.
        prefilled_tokens: prompt tokens computed, since the start.
    """

    _decoder: KVCacheDecoder

    def __init__(
        self,
        decoder: KVCacheDecoder,
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
        """Compile graphs before the first request; yield a description before each one.

        Args:
            all_lengths: whether to compile for texts of any length, not only short ones.
        """
        lengths = self._decoder.lengths if all_lengths else self._decoder.lengths[:1]
        for adapter in ("", *self._adapters):
            suffix = f" of {adapter}" if adapter else ""
            yield f"prompts{suffix}"
            hidden = self._prefill.take([0], 0, adapter)
            self._prefill.logits(hidden, 0, adapter)
            self._prefill.all_logits(hidden, adapter)
            for length in lengths:
                yield f"texts{suffix} of up to {length} tokens"
                self._decoder.reserve(length)
                self._decoder.adopt(0, self._prefill.prompt(1), 1)
                # the first step of a graph takes a second longer than later ones
                self._decoder.step(np.zeros(len(self._rows), np.int32), [0], adapter)
                self._decoder.release(0)

    def begin(self, row: Row) -> None:
        """Start to prefill a prompt after its cached prefix; a slot must be free."""
        if not self.busy:
            self._decoder.reserve(row.request.room)
        self.taking, self._taken, self._unscored = row, 0, None
        if row.request.scores_prompt:  # needs the logits of every token
            return
        # the last token is always computed: its logits give the next one
        if blocks := self.prefixes.find(row.request.ids[:-1], row.request.adapter):
            self._prefill.restore(blocks)
            self._taken = len(blocks) * CHUNK
            self.cached_tokens += self._taken

    def advance(self) -> Row | None:
        """Prefill the next chunk, or score the last one if requested, which takes as long.

        Returns:
            The text once its first token is chosen or it has failed, else None.
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
            keys_values = self._prefill.prompt(len(prompt))
            self._decoder.adopt(place, keys_values, len(prompt))
            self._rows[place] = row

    def _take_chunk(self, prompt: Sequence[int], adapter: str) -> Tensor:
        """Prefill the next chunk and return its hidden states."""
        start = self._taken
        chunk = prompt[start : start + CHUNK]
        hidden = self._prefill.take(chunk, start, adapter)
        self.prefilled_tokens += len(chunk)
        self._taken += len(chunk)
        if len(chunk) == CHUNK and not self.prefixes.knows(prompt[: self._taken], adapter):
            self.prefixes.keep(prompt[: self._taken], self._prefill.keys_values(start), adapter)
        return hidden

    @override
    def step(self) -> list[Row]:
        moved = self.busy
        for adapter in dict.fromkeys(row.request.adapter for row in moved):
            rows = {
                place: row
                for place, row in enumerate(self._rows)
                if row and row.request.adapter == adapter
            }
            ids = np.zeros(len(self._rows), np.int32)
            ids[list(rows)] = [row.ids[-1] for row in rows.values()]
            logits = self._decoder.step(ids, list(rows), adapter)
            for place, row in rows.items():
                self._choose(place, row, logits[place])
        return moved

    def drop(self, row: Row) -> None:
        """Free a text's slot, finished or not; or abandon the prefill of its prompt."""
        if row is self.taking:
            self.taking = None
            self._prefill.clear()
        else:
            super().drop(row)

    def clear(self) -> None:
        """Free all slots."""
        self.taking = None
        for row in self.busy:
            super().drop(row)
