"""Topics of Kafka as an unbounded source of raw batches."""
