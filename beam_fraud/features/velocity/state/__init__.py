"""The engine for streams: rows as they come, and what has to be kept of them."""
