"""Cluster jobs: rank tables, launch and supervision of ranks."""

import gpt2dsl.model  # noqa: F401  # sets MindSpore's environment before any import of it
