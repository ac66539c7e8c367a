"""Rows into a table, where rows with the same key may be already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.type_api import TypeEngine

from beam_fraud.sinks.postgresql_text import storable

Row = dict[str, object]
#: Values of each column, all as many.
Columns = Mapping[str, Sequence[object]]


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    *,
    where: ColumnElement[bool] | None = None,
    keep: Collection[str] = (),
) -> None:
    """Insert `rows`, or update those whose key is there; the last row of a key wins.

    What PostgreSQL cannot hold is written otherwise there (`postgresql_text`).

    Args:
      connection: in a transaction.
      table: where to.
      rows: all with the same columns, the key's among them.
      where: which of the rows that are there may be updated; all of them if None.
      keep: columns that stay as they are in rows that are there.
    """
    if rows:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        upsert_columns(connection, table, columns, where=where, keep=keep)


def upsert_columns(
    connection: Connection,
    table: Table,
    columns: Columns,
    *,
    where: ColumnElement[bool] | None = None,
    keep: Collection[str] = (),
) -> None:
    """As `upsert`, of rows that are given column by column."""
    server = connection.dialect.name == "postgresql"
    if server:
        columns = {name: storable(table.c[name], values) for name, values in columns.items()}
    key = [column.name for column in table.primary_key.columns]
    # Two writers that go in one order never wait for each other in a circle. SQLite has one.
    columns = _last_of_each_key(columns, key, ordered=server)
    if not columns[key[0]]:
        return
    changed = [name for name in columns if name not in key and name not in keep]
    write = _into_postgresql if server else _into_sqlite
    write(connection, table, columns, key, changed, where)


def _last_of_each_key(columns: Columns, key: Sequence[str], *, ordered: bool) -> Columns:
    """Rows without repeated keys, in the order of the keys if `ordered`."""
    keys = list(zip(*(columns[name] for name in key), strict=True))
    last = {row_key: number for number, row_key in enumerate(keys)}
    if len(last) == len(keys) and not ordered:
        return columns
    # Keys are of one type each, and never null.
    order = [last[row_key] for row_key in (sorted(last) if ordered else last)]
    return {name: [values[number] for number in order] for name, values in columns.items()}


def _into_sqlite(
    connection: Connection,
    table: Table,
    columns: Columns,
    key: Sequence[str],
    changed: Sequence[str],
    where: ColumnElement[bool] | None,
) -> None:
    """One statement, prepared once, for all rows: as fast as many rows in one VALUES list."""
    statement = sqlite.insert(table)
    if changed:
        new = {name: statement.excluded[name] for name in changed}
        statement = statement.on_conflict_do_update(index_elements=key, set_=new, where=where)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=key)
    # Past SQLAlchemy's own execution, which makes a dictionary a row.
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(columns))
    values: list[Iterable[object]] = []
    for name in compiled.positiontup or ():
        if name in columns:
            values.append(_bound(connection, table.c[name].type, columns[name]))
        else:
            values.append(repeat(compiled.params[name]))
    connection.exec_driver_sql(str(compiled), list(zip(*values)))  # noqa: B905 some are endless


def _bound(
    connection: Connection, column_type: TypeEngine[Any], values: Sequence[object]
) -> Iterable[object]:
    dialect = connection.dialect
    bind: Callable[[object], object] | None
    bind = column_type.dialect_impl(dialect).bind_processor(dialect)
    return values if bind is None else map(bind, values)


def _into_postgresql(
    connection: Connection,
    table: Table,
    columns: Columns,
    key: Sequence[str],
    changed: Sequence[str],
    where: ColumnElement[bool] | None,
) -> None:
    """One statement and one array a column: there and back once, however many rows."""
    arrays = [
        func.unnest(bindparam(name, type_=postgresql.ARRAY(table.c[name].type, dimensions=1)))
        for name in columns
    ]
    statement = postgresql.insert(table).from_select(list(columns), select(*arrays))
    if changed:
        new = {name: statement.excluded[name] for name in changed}
        statement = statement.on_conflict_do_update(index_elements=key, set_=new, where=where)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=key)
    connection.execute(statement, dict(columns))
