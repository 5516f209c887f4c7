"""The keys of the files beside weights, and the fate of each: one table a file."""
