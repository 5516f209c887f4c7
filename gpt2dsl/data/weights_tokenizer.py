"""Tokenizer of weights: the one beside them, or the published one."""

from __future__ import annotations

from pathlib import Path

from gpt2dsl.data.tokenizer import PUBLISHED, Tokenizer
from gpt2dsl.errors import InputError
from gpt2dsl.parts.model import GPT2_ROWS, GPT2_VOCAB


def of_weights(folder: Path | None, vocab: int, name: object) -> Tokenizer:
    """Return the tokenizer beside weights, or the published one if there is none.

    Raises:
        InputError: as ``Tokenizer.load``; or it has ids beyond wte, or there is none and wte is not
            of the published size (G2-205).
    """
    if folder is None and vocab not in GPT2_ROWS:
        raise InputError("G2-205", name, _without_tokenizer(vocab))
    tokenizer = Tokenizer.load(folder or PUBLISHED)
    tokenizer.require(vocab, folder or name)
    return tokenizer


def _without_tokenizer(vocab: int) -> str:
    """Return the message on weights whose tokenizer is unknown."""
    return (
        f"no tokenizer lies beside the weights, and GPT-2's own has {GPT2_VOCAB} entries where the "
        f"word table has {vocab} rows: name a folder that has the tokenizer (data.tokenizer)"
    )
