"""Chunk size of chunked prefill; free of MindSpore imports."""

CHUNK = 32
"""Tokens per chunk; running rows wait for at most two chunks between two decoding steps."""
