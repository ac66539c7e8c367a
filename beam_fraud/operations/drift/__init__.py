"""Summaries of archives for drift, and how much the score depends on a feature."""
