"""A training step: gradients, their exchange between ranks, optimizers, the pipeline."""
