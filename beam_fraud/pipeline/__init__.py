"""The two graphs, `batch` and `stream`, and `frames`, the same in memory."""
