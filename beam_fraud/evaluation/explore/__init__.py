"""What is in a table of transactions."""
