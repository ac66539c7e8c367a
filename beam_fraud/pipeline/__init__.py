"""The two graphs: `batch` and `stream`."""
