"""How a stream is doing while it runs: counts, lag, latency."""
