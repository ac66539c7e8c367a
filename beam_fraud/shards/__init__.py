"""What a stream remembers, cut into shards: pure logic, without a runner."""
