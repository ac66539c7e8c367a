"""Topics of Kafka: its client and the unbounded source."""
