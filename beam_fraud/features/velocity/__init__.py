"""Velocity features: what both engines share."""
