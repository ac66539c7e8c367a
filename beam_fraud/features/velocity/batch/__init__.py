"""The engine for files: all rows of a key at once."""
