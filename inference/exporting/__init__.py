"""A run as graphs that onnxruntime reads, with or without int8."""
