"""Decide on transactions by scores and rules, with reasons."""
