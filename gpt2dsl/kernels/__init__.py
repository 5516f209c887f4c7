"""Custom operators with gradients, in place of stock ones that are slow or wrong on some device.

Each docstring says which operator it replaces and why; docs/mindspore-notes.md has the figures.
Tensors are two-dimensional where possible: ``[rows, width]`` with rows = batch * time.
"""

import gpt2dsl.backend  # noqa: F401  # as in model/
