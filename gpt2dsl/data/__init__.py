"""Tokenizer, and the data pipeline text → tokens → rows → batches. No MindSpore."""
