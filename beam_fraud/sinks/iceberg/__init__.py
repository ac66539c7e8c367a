"""The sink for an Iceberg table, and the archive of all scores in one."""
