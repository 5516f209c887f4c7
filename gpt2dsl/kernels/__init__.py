"""Operators whose stock form is slow or wrong on some device, each with its own gradient.

Each docstring names what the operator replaces and why; docs/mindspore-notes.md has the figures.
Tensors are two-dimensional wherever they can be: ``[rows, width]`` with rows = batch * time.
"""
