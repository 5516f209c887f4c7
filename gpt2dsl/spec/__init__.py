"""Recipes as TOML: reading, which collects all faults, and writing, which is its inverse."""
