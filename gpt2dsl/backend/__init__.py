"""MindSpore itself: the device, compiled graphs, memory, and whose turn it is."""
