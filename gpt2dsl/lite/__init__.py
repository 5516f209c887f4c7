"""Graphs for deployment, and the runtimes that run them."""
