"""Weights on disk: Hugging Face's layout, in a store whose folders are whole or not there."""
