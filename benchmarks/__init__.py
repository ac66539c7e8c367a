"""Speed and size of the pipeline, compared with simpler programs."""
