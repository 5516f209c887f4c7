"""MindSpore backend: device, compiled graphs, memory, and turns between threads."""
