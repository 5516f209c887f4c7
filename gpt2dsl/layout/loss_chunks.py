"""How many tokens' logits are held at once."""

MOST = 512
"""Larger products are no faster, and these logits take 103 MB of GPT-2's vocabulary."""

LEAST = 128
"""The gradient of the word table is added to once for each portion, which takes as long as the
products of some 20 tokens."""


def chunk_count(tokens: int, ranks: int = 1) -> int:
    """The smallest number of equal portions of at most ``MOST`` and at least ``LEAST`` tokens.

    Args:
        tokens: of a batch.
        ranks: each of which works on some of them, and has as many of each portion.

    Returns:
        1 where there is none.
    """
    counts = range(-(-tokens // MOST), tokens // LEAST + 1)
    return next((count for count in counts if tokens % (count * ranks) == 0), 1)
