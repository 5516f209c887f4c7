"""Operators whose stock form is slow or wrong on some device, each with its own gradient.

What each replaces, and the figures, are in its docstring; docs/mindspore-notes.md has the rest.
Tensors are two-dimensional wherever they can be: ``[rows, width]`` with rows = batch * time.
"""
