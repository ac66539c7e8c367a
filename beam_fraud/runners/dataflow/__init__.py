"""Google Cloud Dataflow jobs."""
