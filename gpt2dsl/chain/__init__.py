"""Chains of recipes: each stage takes the weights of an earlier one; finished stages are reused."""
