"""What becomes of each key of the files beside weights: one table a file."""
