"""Velocity features of files: rows sorted by key with bounded memory."""
