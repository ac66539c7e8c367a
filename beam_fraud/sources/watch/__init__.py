"""A directory into which files are dropped, as a stream."""
