"""Insert or update rows of a table, by key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import repeat
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType


def values_of(column: pa.Array) -> list[object]:
    """Return `to_pylist`, many times as fast; null numbers become NaN."""
    values: list[object] = column.to_numpy(zero_copy_only=False).tolist()
    return values


#: Maximum of characters of an indexed text; an index row holds 2,700 bytes.
_LONGEST = 400


def storable(
    column: Column[Any], values: Sequence[object] | pa.Array
) -> Sequence[object] | pa.Array:
    """Convert values for PostgreSQL; only texts ever change.

    NUL characters and halves of surrogate pairs become escapes: `\x00`. An indexed text of more
    than 400 characters is truncated and ends with the SHA-256 of the whole, so that different texts
    stay different. So hostile names cannot keep other rows from being written.
    """
    if not isinstance(column.type, Text):
        return values
    indexed = column.name in _indexed(column.table)
    if isinstance(values, pa.Array):
        return _storable_array(values, indexed)
    texts = [value for value in values if isinstance(value, str)]
    too_long = indexed and max(map(len, texts), default=0) > _LONGEST
    joined = "".join(texts)
    if too_long or "\0" in joined or not is_utf8(joined):
        return [_changed(value, indexed) if isinstance(value, str) else value for value in values]
    return values


def _storable_array(values: pa.Array, indexed: bool) -> pa.Array:
    """Find the texts to change by their bytes: Arrow's texts are valid UTF-8."""
    data = values.buffers()[2]
    # A slice's buffer contains other values too, which costs time at most.
    nul = data is not None and b"\0" in data.to_pybytes()
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if not nul and not (indexed and longest > _LONGEST):
        return values
    changed = [text and _changed(text, indexed) for text in values.to_pylist()]
    return pa.array(changed, pa.string())


@cache
def _indexed(table: Table) -> frozenset[str]:
    columns = [*table.primary_key.columns, *(c for index in table.indexes for c in index.columns)]
    return frozenset(column.name for column in columns)


def _changed(text: str, indexed: bool) -> str:
    text = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    if indexed and len(text) > _LONGEST:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{text[: _LONGEST - len(digest) - 1]}\N{HORIZONTAL ELLIPSIS}{digest}"
    return text


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can encode a text: it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


Row = dict[str, object]
#: Type: equally many values of each column; of Arrow, texts, float64 and microseconds in UTC.
Columns = Mapping[str, Sequence[object] | pa.Array]


def upsert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert `rows`, or update those with an existing key; the last row of a key wins.

    Texts that PostgreSQL cannot store are converted (`storable`).

    Args:
      connection: in a transaction.
      table: the table.
      rows: rows of equal columns, the key included.
    """
    if rows:
        upsert_columns(connection, table, {name: [row[name] for row in rows] for name in rows[0]})


def upsert_columns(
    connection: Connection,
    table: Table,
    columns: Columns,
    *,
    where: ColumnElement[bool] | None = None,
    keep: Collection[str] = (),
) -> None:
    """Do as `upsert`, for rows in columns; an existing row with equal values stays as it is.

    Args:
      connection: in a transaction.
      table: the table.
      columns: name to values, the key included.
      where: condition on existing rows to update; None for all.
      keep: columns of existing rows to keep.
    """
    server = connection.dialect.name == "postgresql"
    if server:
        columns = {name: storable(table.c[name], values) for name, values in columns.items()}
    key = [column.name for column in table.primary_key.columns]
    # Two writers in the same order cannot deadlock. SQLite has one writer.
    columns = _last_of_each_key(columns, key, ordered=server)
    if not columns[key[0]]:
        return
    changed = [name for name in columns if name not in key and name not in keep]
    write = _into_postgresql if server else _into_sqlite
    write(connection, table, columns, key, changed, where)


def set_columns(connection: Connection, table: Table, columns: Mapping[str, list[Any]]) -> None:
    """Change columns of rows that are there, by key; keys without a row change nothing.

    Args:
      connection: in a transaction.
      table: the table.
      columns: name to values, the key included; each key once.
    """
    key = [column.name for column in table.primary_key.columns]
    if not columns[key[0]]:
        return
    if connection.dialect.name == "postgresql":
        # In the order of keys: two writers cannot deadlock.
        order = sorted(range(len(columns[key[0]])), key=lambda n: [columns[k][n] for k in key])
        arrays = [
            func.unnest(_array(table.c[name], [values[n] for n in order])).label(name)
            for name, values in columns.items()
        ]
        new = select(*arrays).subquery("new")
        statement = table.update().where(*(table.c[name] == new.c[name] for name in key))
        connection.execute(
            statement.values({name: new.c[name] for name in columns if name not in key})
        )
        return
    statement = table.update().where(*(table.c[name] == bindparam(f"_{name}") for name in key))
    names = {name: f"_{name}" if name in key else name for name in columns}
    rows = [
        dict(zip(names.values(), values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]
    connection.execute(
        statement.values({name: bindparam(name) for name in columns if name not in key}), rows
    )


class _JsonValues(FunctionElement[Any]):
    """The values of a JSON list: as a query, SQLAlchemy would take half a millisecond for it."""

    inherit_cache = True


@compiles(_JsonValues)
def _json_values(element: _JsonValues, compiler: SQLCompiler, **options: Any) -> str:
    listed = compiler.process(element.clauses, **options)
    return f"(SELECT value FROM json_each({listed}))"  # noqa: S608 a parameter


def in_values(
    connection: Connection, column: ColumnElement[Any], values: Sequence[str]
) -> ColumnElement[bool]:
    """Return the condition that a text column has one of many values.

    One parameter holds them: it is parsed a hundred times as fast as as many parameters.
    """
    if connection.dialect.name == "postgresql":
        array = bindparam(None, list(values), type_=postgresql.ARRAY(column.type))
        return column == any_(array)
    if any("\0" in value for value in values):
        # JSON of SQLite ends there; up to 32,000.
        return column.in_(values)
    listed = bindparam(None, msgspec.json.encode(values).decode(), type_=Text())
    return column.op("IN", is_comparison=True)(_JsonValues(listed))


def _last_of_each_key(columns: Columns, key: Sequence[str], *, ordered: bool) -> Columns:
    """Return rows without repeated keys, sorted by key if `ordered`."""
    keys = list(zip(*(_listed(columns[name]) for name in key), strict=True))
    last = {row_key: number for number, row_key in enumerate(keys)}
    if len(last) == len(keys) and not ordered:
        return columns
    # Each key has one type and no nulls.
    order = [last[row_key] for row_key in (sorted(last) if ordered else last)]
    return {name: _ordered(values, order) for name, values in columns.items()}


def _listed(values: Sequence[object] | pa.Array) -> Sequence[object]:
    return values_of(values) if isinstance(values, pa.Array) else values


def _ordered(
    values: Sequence[object] | pa.Array, order: Sequence[int]
) -> Sequence[object] | pa.Array:
    if isinstance(values, pa.Array):
        return values.take(pa.array(order, pa.int64()))
    return [values[number] for number in order]


def _into_sqlite(
    connection: Connection,
    table: Table,
    columns: Columns,
    key: Sequence[str],
    changed: Sequence[str],
    where: ColumnElement[bool] | None,
) -> None:
    """Use one prepared statement for all rows: as fast as many rows in one VALUES list."""
    statement = sqlite.insert(table)
    if changed:
        new = {name: statement.excluded[name] for name in changed}
        statement = statement.on_conflict_do_update(
            index_elements=key, set_=new, where=_differing(table, new, where)
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=key)
    # Bypass SQLAlchemy's execution, which creates a dictionary per row.
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(columns))
    values: list[Iterable[object]] = []
    for name in compiled.positiontup or ():
        if name in columns:
            values.append(_for_sqlite(connection, table.c[name], columns[name]))
        else:
            values.append(repeat(compiled.params[name]))
    connection.exec_driver_sql(str(compiled), list(zip(*values)))  # noqa: B905 some are endless


def _differing(
    table: Table, new: Mapping[str, ColumnElement[Any]], where: ColumnElement[bool] | None
) -> ColumnElement[bool]:
    """Return the condition that an existing row changes: an equal one isn't written again.

    What is replayed is mostly there already: a new version of each row and its place in every index
    would cost more than the comparison.
    """
    differs = or_(*(table.c[name].is_distinct_from(value) for name, value in new.items()))
    return differs if where is None else and_(where, differs)


def _for_sqlite(
    connection: Connection, column: Column[Any], values: Sequence[object] | pa.Array
) -> Iterable[object]:
    if isinstance(values, pa.Array):
        if pa.types.is_timestamp(values.type):
            # Arrow formats times as `UtcDateTime` does, all at once.
            values = values.cast(pa.timestamp("us")).cast(pa.string())
        return values_of(values)
    dialect = connection.dialect
    bind: Callable[[object], object] | None
    bind = column.type.dialect_impl(dialect).bind_processor(dialect)
    return values if bind is None else map(bind, values)


def _into_postgresql(
    connection: Connection,
    table: Table,
    columns: Columns,
    key: Sequence[str],
    changed: Sequence[str],
    where: ColumnElement[bool] | None,
) -> None:
    """Use one statement and one array per column: one round trip for any number of rows."""
    arrays = [_array(table.c[name], values) for name, values in columns.items()]
    unnested = select(*map(func.unnest, arrays))
    statement = postgresql.insert(table).from_select(list(columns), unnested)
    if changed:
        new = {name: statement.excluded[name] for name in changed}
        statement = statement.on_conflict_do_update(
            index_elements=key, set_=new, where=_differing(table, new, where)
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=key)
    connection.execute(statement)


def _array(column: Column[Any], values: Sequence[object] | pa.Array) -> ColumnElement[Any]:
    kind = postgresql.ARRAY(column.type, dimensions=1)
    if not isinstance(values, pa.Array):
        return bindparam(column.name, values, type_=kind)
    # Imported here: psycopg is an extra.
    from beam_fraud.storage.database.postgresql import postgresql_array

    return cast(bindparam(column.name, postgresql_array(values), type_=NullType()), kind)
