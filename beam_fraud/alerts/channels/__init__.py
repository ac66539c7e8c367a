"""Channels that notify people, one module each."""
