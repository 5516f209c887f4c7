"""Rows that a request submits to the worker."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from gpt2dsl.engine.generation.row import Row
from gpt2dsl.engine.language_model import LanguageModel
from gpt2dsl.serve.schema.completions import Prompt
from gpt2dsl.serve.schema.sampling import Sampling


def copies(model: LanguageModel, body: Sampling, prompt: Prompt, number: int = 0) -> Iterable[Row]:
    """Return the rows of one prompt; with a seed, they do not depend on the other prompts.

    Raises:
        SpecError: a value or the prompt is invalid.
    """
    each = body.candidates
    first = number * each if body.seed is None else 0
    generation = body.generation(model.geometry.positions)
    generates = body.longest != 0
    row = model.row(prompt, generation, first, stops_in_prompt=False, generates=generates)
    asked = attrs.evolve(
        row.request,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        scores_prompt=body.scores_prompt,
    )
    return [Row(attrs.evolve(asked, number=first + copy)) for copy in range(each)]
