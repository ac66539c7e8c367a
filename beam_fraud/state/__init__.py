"""What a stream remembers: shards, checkpoints and the clock of events."""
