"""Answers to transactions over HTTP: predictions within the path of a payment."""
