"""Databases: connections, tables, migrations and writes that are repeated safely."""
