"""What runs exported graphs: onnxruntime, MindSpore, MindSpore Lite."""
