"""Check that wte has a row for each id of a tokenizer."""

from __future__ import annotations


def vocabulary_misfit(needed: int, rows: int, tokenizer: str = "the tokenizer") -> str:
    """Return why wte is too small for a tokenizer; "" where it is large enough.

    ``needed`` is the tokenizer's largest id plus one, gaps included.
    """
    if needed <= rows:
        return ""
    return (
        f"{tokenizer} has {needed} entries, the model's word table {rows}; "
        "ids beyond it have no embedding. Name another tokenizer, or resize the table "
        f"(transformers: model.resize_token_embeddings({needed}))"
    )
