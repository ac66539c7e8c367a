"""Check a database without changing it."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, Table, inspect, text

from beam_fraud.errors import Code, FraudError
from beam_fraud.storage.database.tables import METADATA, VERSION, VERSION_TABLE, version_of
from beam_fraud.storage.database.url import masked
from beam_fraud.storage.folder import check_writable

#: Version of tables from before versions existed.
_FIRST = "0001"


def check_file(file: Path, url: str) -> bool:
    """Check that an SQLite file is writable or can be created; return whether it exists.

    Raises:
      FraudError: it cannot be written.
    """
    if not file.exists():
        check_writable(file.parent)
        return False
    if not file.is_file():
        raise FraudError(
            f"database {masked(url)}: {file} is not a file, give another one", Code.DATABASE_FILE
        )
    for needed in (file, file.parent):
        if not os.access(needed, os.W_OK):
            raise FraudError(
                f"database {masked(url)}: {needed} may not be written to", Code.DATABASE_RIGHTS
            )
    return True


def check_tables(connection: Connection, url: str) -> None:
    """Check that tables with our names are ours, of this version or an older one.

    Raises:
      FraudError: a table is foreign, or of a newer version.
    """
    version = version_of(connection) or _FIRST
    if version > VERSION:
        raise FraudError(
            f"database {masked(url)}: its tables are of version {version}, this beam-fraud knows "
            f"them up to {VERSION}; install a newer one",
            Code.DATABASE_TABLES,
        )
    for table in METADATA.sorted_tables:
        if inspect(connection).has_table(table.name):
            _check_table(connection, table, url, version)


def _check_table(connection: Connection, table: Table, url: str, version: str) -> None:
    inspector = inspect(connection)
    there = {column["name"] for column in inspector.get_columns(table.name)}
    expected = [c.name for c in table.columns if c.info.get("since", _FIRST) <= version]
    missing = [name for name in expected if name not in there]
    key = [column.name for column in table.primary_key.columns]
    if missing:
        wrong = f"lacks the column {missing[0]!r}"
    elif set(inspector.get_pk_constraint(table.name)["constrained_columns"]) != set(key):
        wrong = f"does not have the key ({', '.join(key)})"
    else:
        return
    raise FraudError(
        f"database {masked(url)}: table {table.name!r} {wrong}; give another database or drop it",
        Code.DATABASE_TABLES,
    )


def check_rights(connection: Connection, url: str) -> None:
    """Check that PostgreSQL permits writing to existing tables and creating the others.

    Raises:
      FraudError: it does not permit it.
    """
    where = f"database {masked(url)}"
    if connection.scalar(text("SHOW transaction_read_only")) == "on":
        raise FraudError(
            f"{where}: takes no writes (a replica?); give the primary server", Code.DATABASE_RIGHTS
        )
    schema = connection.scalar(text("SELECT current_schema()"))
    if schema is None:
        raise FraudError(
            f"{where}: no schema of its search_path is there; make one or give another",
            Code.DATABASE_RIGHTS,
        )
    for name in (VERSION_TABLE, *METADATA.tables):
        if inspect(connection).has_table(name):
            rights = ["SELECT", "INSERT", "UPDATE", "DELETE"]
            query = text("SELECT has_table_privilege(:name, :right)")
            granted = (connection.scalar(query, {"name": name, "right": r}) for r in rights)
            if not all(granted):
                raise FraudError(
                    f"{where}: its user may not write to table {name!r}; grant "
                    f"{', '.join(rights)} on it",
                    Code.DATABASE_RIGHTS,
                )
    if version_of(connection) != VERSION:
        query = text("SELECT has_schema_privilege(:name, 'CREATE')")
        if not connection.scalar(query, {"name": schema}):
            raise FraudError(
                f"{where}: its user may not make tables in schema {schema!r}; grant CREATE on it",
                Code.DATABASE_RIGHTS,
            )
