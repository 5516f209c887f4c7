"""Batched beam search over several prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2dsl.engine.generation.beams import Beams
from gpt2dsl.engine.generation.decoder import Decoder


def search(decoder: Decoder, groups: Sequence[Beams]) -> None:
    """Run the beam search of each prompt to its end.

    Args:
        decoder: a decoder with one row for each beam of each prompt.
        groups: the prompts, all with the same number of beams.
    """
    count = len(groups[0].running)
    places = range(0, len(groups) * count, count)
    decoder.reserve(max(group.request.room for group in groups))
    first = decoder.prefill(places, [group.request.ids for group in groups])
    logits = np.repeat(first, count, axis=0)  # [prompts beams, vocab]
    beam_rows = np.repeat(places, count)  # the decoder row of each beam
    while True:
        sources = beam_rows.copy()
        for place, group in zip(places, groups, strict=True):
            if not group.is_over:
                group_sources = np.array(group.take(logits[place : place + count]))
                sources[place : place + count] = beam_rows[place + group_sources]
        if all(group.is_over for group in groups):
            return
        beam_rows = np.arange(len(sources))
        if (sources != beam_rows).any():
            decoder.reorder(sources)
        last = [beam.ids[-1] for group in groups for beam in group.running]
        logits = decoder.step(np.array(last, np.int32))
