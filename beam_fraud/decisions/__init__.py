"""Scores and rules to decisions, with reasons."""
