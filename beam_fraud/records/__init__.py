"""Convert bytes and columns to transactions, labels or dead letters."""
