"""Held-out samples of a model: the loss of each token of a passage, and continuations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from gpt2dsl.data.rows import Rows
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.continuation import Continuation
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts
from gpt2dsl.training.batch_outputs import BatchOutputs

Generate = Callable[[Sequence[str], Generation], list[Continuation]]

PROMPTS = 3
PROMPT_TOKENS = 12
SHOWN_TOKENS = 40


@attrs.frozen
class Showcase:
    """Samples that, taken before and after training, show what was learned.

    Attributes:
        tokens: text of each token of a passage.
        losses: cross-entropy of each token, in nats.
        prompts: beginnings of held-out rows.
        continuations: text that the model generates after them.
    """

    tokens: tuple[str, ...]
    losses: tuple[float, ...]
    prompts: tuple[str, ...]
    continuations: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the showcase as a JSON object."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Showcase:
        """Return the showcase from the output of ``to_json``."""
        return cls(**{name: tuple(values) for name, values in document.items()})


def show(
    tokenizer: Tokenizer, outputs: BatchOutputs, rows: Rows, parts: Parts, generate: Generate | None
) -> Showcase:
    """Return a showcase of the network's current state.

    Args:
        tokenizer: tokenizer of the text.
        outputs: per-token losses of the network; all ranks must call.
        rows: held-out text.
        parts: the recipe, for the batch size and the generation settings.
        generate: continues texts; None if the network can't.
    """
    batch = parts.train.batch_size
    ids, labels, mask = next(rows.evaluation_batches(batch))
    places = np.flatnonzero(mask[0])  # a MindRecord row may mask some out
    cost = outputs.of(ids, labels, np.arange(batch) == 0)[0, places]
    starts = [row for row in range(batch) if mask[row, :PROMPT_TOKENS].all()][:PROMPTS]
    prompts = [tokenizer.decode(ids[row, :PROMPT_TOKENS]) for row in starts]
    shorter = parts.generation.evolve(
        max_new_tokens=min(SHOWN_TOKENS, parts.generation.limit(0)),
        max_length=None,
        min_new_tokens=0,
        min_length=0,
        beams=1,
        stream=False,
        num_return_sequences=1,
        logprobs=None,
    )
    results = generate(prompts, shorter) if generate and prompts else []
    return Showcase(
        tokens=tuple(tokenizer.decode([token]) for token in labels[0, places]),
        losses=tuple(round(float(value), 4) for value in cost),
        prompts=tuple(result.prompt for result in results),
        continuations=tuple(result.text for result in results),
    )
