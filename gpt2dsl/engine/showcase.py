"""What a model makes of held-out text: the cost of each token, and continuations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from gpt2dsl.data.rows import Rows
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.engine.generation.continuation import Continuation
from gpt2dsl.model.evaluation import Losses
from gpt2dsl.parts import Generation
from gpt2dsl.parts.bundle import Parts

Generate = Callable[[Sequence[str], Generation], list[Continuation]]

PROMPTS = 3
PROMPT_TOKENS = 12
SHOWN_TOKENS = 40


@attrs.frozen
class Showcase:
    """Taken before and after training, it shows what was learned.

    Attributes:
        tokens: the text of each token of a passage.
        losses: what each cost the model, nats.
        prompts: beginnings of held-out rows.
        continuations: what the model writes after them.
    """

    tokens: tuple[str, ...]
    losses: tuple[float, ...]
    prompts: tuple[str, ...]
    continuations: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return attrs.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Showcase:
        """What ``to_json`` gave."""
        return cls(**{name: tuple(values) for name, values in document.items()})


def show(
    tokenizer: Tokenizer, losses: Losses, rows: Rows, parts: Parts, generate: Generate | None
) -> Showcase:
    """Take it.

    Args:
        tokenizer: of the text.
        losses: of the network as it is now.
        rows: held-out text.
        parts: the recipe, for the batch and for how to generate.
        generate: continues texts; None where the network can't.
    """
    batch = parts.train.batch_size
    ids, labels, mask = next(rows.evaluation_batches(batch))
    told = np.flatnonzero(mask[0])  # a row of MindRecord may leave some out
    cost = losses.losses(ids, labels)[0, told]
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
    found = generate(prompts, shorter) if generate and prompts else []
    return Showcase(
        tokens=tuple(tokenizer.decode([token]) for token in labels[0, told]),
        losses=tuple(round(float(value), 4) for value in cost),
        prompts=tuple(one.prompt for one in found),
        continuations=tuple(one.text for one in found),
    )
