"""Training step: gradients, their all-reduce, optimizers, the pipeline."""

import gpt2dsl.backend  # noqa: F401  # as in model/
