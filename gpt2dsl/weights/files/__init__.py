"""Files of tensors: what lies in each, a block at a time, and writing them."""
