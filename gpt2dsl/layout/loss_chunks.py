"""Chunk sizes of the loss: the number of tokens whose logits are in memory together."""

MOST = 512
"""Most tokens per chunk: larger products are no faster, and with GPT-2's vocabulary these logits
take 103 MB."""

LEAST = 128
"""Fewest tokens per chunk: each chunk adds to the word table's gradient once, which takes as long
as the matrix products of about 20 tokens."""


def chunk_count(tokens: int, ranks: int = 1) -> int:
    """Return the smallest number of equal chunks of ``LEAST`` to ``MOST`` tokens.

    Args:
        tokens: number of tokens in a batch.
        ranks: number of sequence parallel ranks; each has an equal share of every chunk.

    Returns:
        The number of chunks; 1 if no number fits.
    """
    counts = range(-(-tokens // MOST), tokens // LEAST + 1)
    return next((count for count in counts if tokens % (count * ranks) == 0), 1)
