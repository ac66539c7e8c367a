"""Drift: summaries of days that merge exactly, their divergences, and alarms."""
