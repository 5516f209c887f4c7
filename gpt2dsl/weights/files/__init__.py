"""Tensor files: list their tensors, read them block by block, write them."""
