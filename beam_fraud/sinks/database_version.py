"""Which version the tables of a database are of."""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

#: The version of the tables as `tables.py` has them: the last of `migrations/versions`.
VERSION = "0003"
#: Not Alembic's own name for it, which another program may use in the same database.
VERSION_TABLE = "beam_fraud_version"
_VERSIONS = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), nullable=False))


def version_of(connection: Connection) -> str | None:
    """The version of the tables; None if they are older than versions, or not there."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_VERSIONS.c.version_num)).scalar()


def at_this_version(connection: Connection) -> bool:
    """Whether nothing has to be made or changed."""
    return version_of(connection) == VERSION
