"""Whether the ids of a tokenizer are all in a word table."""

from __future__ import annotations


def vocabulary_misfit(needed: int, rows: int, tokenizer: str = "the tokenizer") -> str:
    """Say why a word table is too small for a tokenizer; "" where it is not.

    Args:
        needed: the largest id of the tokenizer plus one, whether ids below it are taken or not.
        rows: of the word table.
        tokenizer: what it is called in the message.
    """
    if needed <= rows:
        return ""
    return (
        f"{tokenizer} has {needed} entries, the model's word table {rows}; "
        "ids beyond it have no embedding. Name another tokenizer, or resize the table "
        f"(transformers: model.resize_token_embeddings({needed}))"
    )
