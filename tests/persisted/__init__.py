"""Data that earlier commits persisted, and tests that open and continue it."""
