"""Flink jobs and Flink's REST API."""
