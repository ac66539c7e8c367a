"""Rows of the same key brought together through files, in memory that does not grow with them."""
