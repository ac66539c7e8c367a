"""What is in a table of transactions, before anyone trains on it."""
