"""Databases: connections, tables, migrations and idempotent writes."""
