"""Beam search of several prompts in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2dsl.engine.generation.beams import Beams
from gpt2dsl.engine.generation.decoder import Decoder


def search(decoder: Decoder, groups: Sequence[Beams]) -> None:
    """Go on until each prompt's search is over.

    Args:
        decoder: with a row for each beam of each prompt.
        groups: the prompts, all with as many beams.
    """
    count = len(groups[0].running)
    places = range(0, len(groups) * count, count)
    decoder.reserve(max(group.request.room for group in groups))
    first = decoder.prefill(places, [group.request.ids for group in groups])
    logits = np.repeat(first, count, axis=0)  # [prompts beams, entries]
    held = np.repeat(places, count)  # the row that holds what each beam has said
    while True:
        sources = held.copy()
        for place, group in zip(places, groups, strict=True):
            if not group.is_over:
                found = np.array(group.take(logits[place : place + count]))
                sources[place : place + count] = held[place + found]
        if all(group.is_over for group in groups):
            return
        held = np.arange(len(sources))
        if (sources != held).any():
            decoder.reorder(sources)
        last = [beam.ids[-1] for group in groups for beam in group.running]
        logits = decoder.step(np.array(last, np.int32))
