"""The sink for a BigQuery table."""
