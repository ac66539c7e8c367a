"""MLflow models: read those of others, and export bundles as such."""
