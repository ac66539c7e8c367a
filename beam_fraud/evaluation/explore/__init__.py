"""Explore a table of transactions."""
