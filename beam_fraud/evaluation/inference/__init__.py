"""Schemas guessed from files, and files checked by a schema."""
