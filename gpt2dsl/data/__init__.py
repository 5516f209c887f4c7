"""Text → tokens → rows → batches, and the tokenizer. Knows no MindSpore."""
