"""Flagged transactions in a table of BigQuery."""
