"""Whose files: the names of tensors and the configuration beside them, ours and theirs."""
