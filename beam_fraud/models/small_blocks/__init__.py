"""Predictions of a few rows, fast and with the bits of the model's own."""
