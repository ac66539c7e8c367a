"""Kafka topics: the client and the unbounded source."""
