"""Text generation: logits processors, token choice, beam search, stop criteria and batched rows."""
