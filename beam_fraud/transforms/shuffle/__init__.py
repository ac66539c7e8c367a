"""Sort rows of files by key with bounded memory, for velocity features."""
