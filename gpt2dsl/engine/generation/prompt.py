"""Prompts, and the checks of prompts and settings before anything is generated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

import numpy as np

from gpt2dsl.errors import ArgumentTypeError, Fault, InputError, SpecError, counted
from gpt2dsl.parts import Generation

LONG_TEXT = 100_000
"""Length in characters up to which an overlong prompt is tokenised for its error message."""

Prompt = str | Sequence[int]
"""A text, or token ids, which are used unchanged; NumPy integers are accepted."""


def checked_ids(prompt: Any, vocab: int) -> list[int]:
    """Return token ids as a list.

    Raises:
        TypeError: the prompt is no list of integers.
        InputError: an id is not below ``vocab`` (G2-202).
    """
    is_list = isinstance(prompt, Sequence | np.ndarray)
    is_list = is_list and not isinstance(prompt, bytes | bytearray)
    kinds = set(map(type, prompt)) if is_list else {object}
    if not all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        description = f"{type(prompt).__name__} {prompt!r:.40}"
        raise ArgumentTypeError(f"expected a text, found {description}; ids are a list of integers")
    ids = list(map(int, prompt))
    for wrong in {min(ids, default=0), max(ids, default=0)}:
        if not 0 <= wrong < vocab:
            message = f"{wrong} is no id: there are {vocab}"
            raise InputError("G2-202", "prompt", message)
    return ids


def refuse_unknown_ids(generation: Generation, vocab: int) -> None:
    """Refuse settings with ids that are not below ``vocab`` (G2-202)."""
    for key, ids in generation.ids.items():
        if any(i >= vocab for i in ids):
            message = f"{max(ids)} is no id: there are {vocab}"
            raise InputError("G2-202", f"generation.{key}", message)


def refuse_long(
    prompt: Prompt, ids: Sequence[int], positions: int, generation: Generation | None
) -> None:
    """Refuse a prompt that exceeds the positions, or leaves no room for a continuation (G2-204).

    Without ``generation`` nothing is generated, and all positions may be filled.
    """
    if generation is None:
        if len(ids) > positions:
            message = f"the prompt has {counted(len(ids), 'token')}; {positions} fit"
            raise InputError("G2-204", shown(prompt), message)
        return
    limit = min(positions, generation.limit(len(ids))) - 1
    if len(ids) > limit:
        message = f"the prompt has {counted(len(ids), 'token')}; with one to generate {limit} fit"
        if limit + 1 < positions:
            message += f" into generation.max_length = {generation.max_length}"
        raise InputError("G2-204", shown(prompt), message)


def require_list(texts: object) -> None:
    """Refuse what is neither a text nor a list of texts or ids, of whatever library.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(texts, Collection) or isinstance(texts, Mapping | Set | bytes | bytearray):
        description = f"{type(texts).__name__} {texts!r:.40}"
        raise ArgumentTypeError(f"expected a text or a list of texts, found {description}")


def refuse(generation: Generation) -> None:
    """Refuse contradictory generation settings.

    Raises:
        SpecError: some contradict each other; lists all of them.
    """
    faults = [
        Fault("G2-107", generation.why(key), f"generation.{key}", why)
        for key, why in generation.contradictions()
    ]
    if faults:
        raise SpecError(faults)


def shown(prompt: Prompt) -> str:
    """Return the beginning of a prompt, for messages."""
    if isinstance(prompt, str):
        return repr(prompt if len(prompt) <= 24 else prompt[:20] + "...")
    return "[" + ", ".join(map(str, prompt[:6])) + (", ...]" if len(prompt) > 6 else "]")
