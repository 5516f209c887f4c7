"""Tables of the keys of files beside weights and their fates, one module per file."""
