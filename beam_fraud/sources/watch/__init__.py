"""Watched directories as a source."""
