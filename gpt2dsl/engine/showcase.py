"""What a model makes of held-out text: the cost of each token, and continuations."""

from __future__ import annotations

from typing import Any

import attrs

from gpt2dsl.data.rows import Rows
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.model.evaluation import TokenLosses
from gpt2dsl.parts.bundle import Parts

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


def show(model: LanguageModel, losses: TokenLosses, rows: Rows, parts: Parts) -> Showcase:
    """Take it.

    Args:
        model: as it is now.
        losses: of its network.
        rows: held-out text.
        parts: the recipe, for the batch and for how to generate.
    """
    batch = parts.train.batch_size
    ids, labels, mask = next(rows.evaluation_batches(batch))
    length = int(mask[0].sum())
    cost = losses.losses(ids, labels)[0, :length]
    starts = [row for row in range(batch) if mask[row, :PROMPT_TOKENS].all()][:PROMPTS]
    prompts = [model.tokenizer.decode(ids[row, :PROMPT_TOKENS]) for row in starts]
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
    found = model.continuations(prompts, shorter) if prompts else []
    return Showcase(
        tokens=tuple(model.tokenizer.decode([token]) for token in labels[0, :length]),
        losses=tuple(round(float(value), 4) for value in cost),
        prompts=tuple(one.prompt for one in found),
        continuations=tuple(one.text for one in found),
    )
