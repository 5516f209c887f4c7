"""Export of graphs for deployment, and their runtimes."""
