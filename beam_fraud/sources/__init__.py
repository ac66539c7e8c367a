"""Where transactions come from: files, watched directories and Kafka topics."""
