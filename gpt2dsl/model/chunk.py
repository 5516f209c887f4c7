"""The size of a chunk of a prompt; this module imports nothing of MindSpore."""

CHUNK = 32
"""Tokens of a chunk: at 124M it takes about as long as two steps of eight texts."""
