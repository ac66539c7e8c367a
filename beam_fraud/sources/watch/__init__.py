"""Directories that files are dropped into."""
