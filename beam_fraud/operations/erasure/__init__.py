"""Erase personal data from every store."""
