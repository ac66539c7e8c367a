"""Counters, live state of a stream, Prometheus metrics and progress."""
