"""Training step: gradients, their all-reduce, optimizers, the pipeline."""
