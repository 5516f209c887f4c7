"""Distributed execution: process groups and collectives."""

import gpt2dsl.backend  # noqa: F401  # as in model/
