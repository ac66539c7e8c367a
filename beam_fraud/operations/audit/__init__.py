"""Decisions as an archive recorded them, and computed again from what it kept."""
