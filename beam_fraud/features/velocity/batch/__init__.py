"""The velocity engine for files: all rows of a key at once."""
