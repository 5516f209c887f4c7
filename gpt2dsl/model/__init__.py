"""GPT-2 in MindSpore: the network, its loss, a training step, and decoding with a cache."""
