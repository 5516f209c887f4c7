"""Weights on disk, in Hugging Face's layout and an atomic store."""
