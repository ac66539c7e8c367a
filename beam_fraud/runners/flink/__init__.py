"""Jobs on Flink and its REST API."""
