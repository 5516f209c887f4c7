"""Runtimes of exported graphs: onnxruntime, MindSpore, MindSpore Lite."""
