"""Rows into a table, where rows with the same key may be already."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects.sqlite import insert

Row = dict[str, object]


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    *,
    where: ColumnElement[bool] | None = None,
) -> None:
    """Insert `rows`, or update those whose key is there; the last row of a key wins.

    Args:
      connection: in a transaction.
      table: where to.
      rows: all with the same columns, the key's among them.
      where: which of the rows that are there may be updated; all of them if None.
    """
    if not rows:
        return
    key = [column.name for column in table.primary_key.columns]
    statement = insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=key,
        set_={name: statement.excluded[name] for name in rows[0] if name not in key},
        where=where,
    )
    # One statement, prepared once, for all rows: as fast as many rows in one VALUES list, and
    # free of its limit on parameters.
    connection.execute(statement, list(rows))
