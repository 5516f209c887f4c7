"""From logits to texts: processors, choice of tokens, beams, ends, and rows that share a batch."""
