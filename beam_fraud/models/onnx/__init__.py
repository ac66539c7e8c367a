"""Models as ONNX files, which other runtimes than Python's can score with."""
