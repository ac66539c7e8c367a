"""Export models as ONNX files, for runtimes other than Python's."""
