"""Velocity features: definitions and sums that both engines share."""
