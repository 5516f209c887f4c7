"""The size of a chunk of a prompt; this module imports nothing of MindSpore."""

CHUNK = 32
"""Tokens of a chunk; running texts wait for up to two between two of their steps."""
