"""The state of a stream: shards, checkpoints and the identity of a stream."""
