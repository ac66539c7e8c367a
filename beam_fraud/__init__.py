"""Score card transactions for fraud with one Apache Beam pipeline, in batch and in stream."""

__version__ = "0.1.0"
