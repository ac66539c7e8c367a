"""Insert or update rows of a table, by key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import repeat
from typing import Any, Self, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Table,
    Text,
    TypeDecorator,
    Update,
    and_,
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
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import NullType, TypeEngine


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
    """Change columns of existing rows by key; keys without a row change nothing.

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
        connection.execute(
            _setting_arrays(table, tuple(columns)),
            {f"_{name}": [values[n] for n in order] for name, values in columns.items()},
        )
        return
    rows = [
        dict(zip((f"_{name}" for name in columns), values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]
    connection.execute(_setting_rows(table, tuple(columns)), rows)


# To make a statement takes as long as to change a few rows.
@cache
def _setting_arrays(table: Table, names: tuple[str, ...]) -> Update:
    """Return the statement that sets columns by arrays, the parameters `_name`."""
    key = [column.name for column in table.primary_key.columns]
    arrays = [
        func.unnest(bindparam(f"_{name}", type_=_array_of(table.c[name]))).label(name)
        for name in names
    ]
    new = select(*arrays).subquery("new")
    statement = table.update().where(*(table.c[name] == new.c[name] for name in key))
    return statement.values({name: new.c[name] for name in names if name not in key})


@cache
def _setting_rows(table: Table, names: tuple[str, ...]) -> Update:
    """Return the statement that sets columns of a row by the parameters `_name`."""
    key = [column.name for column in table.primary_key.columns]
    new = {name: bindparam(f"_{name}", type_=table.c[name].type) for name in names}
    statement = table.update().where(*(table.c[name] == new[name] for name in key))
    return statement.values({name: new[name] for name in names if name not in key})


class _Listed(TypeDecorator[Sequence[str]]):
    """Many texts in one parameter: an array of PostgreSQL, JSON of SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the parameter."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.ARRAY(Text()))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        """Return the value of the parameter."""
        values = list(value or ())
        return values if dialect.name == "postgresql" else msgspec.json.encode(values).decode()


class _OneOf(FunctionElement[bool]):
    """A test whether a text is in a list; `IN` with a query would take ten times as long."""

    inherit_cache = True

    def self_group(self, against: OperatorType | None = None) -> Self:
        """Return it as it is: its SQL has parentheses, and is a condition in every database."""
        return self


@compiles(_OneOf)
def _one_of(element: _OneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, listed = (compiler.process(one, **options) for one in element.clauses)
    if compiler.dialect.name == "postgresql":
        return f"({column} = ANY ({listed}))"
    return f"({column} IN (SELECT value FROM json_each({listed})))"  # noqa: S608 a parameter


def one_of(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Return the condition that a text column has one of the texts of a parameter.

    One parameter holds them: it is parsed a hundred times as fast as as many parameters. None of
    them has a NUL character, at which JSON of SQLite ends.
    """
    return _OneOf(column, bindparam(parameter, type_=_Listed()))


def in_values(
    connection: Connection, column: ColumnElement[Any], values: Sequence[str]
) -> ColumnElement[bool]:
    """Return the condition that a text column has one of many values, as `one_of` does."""
    if connection.dialect.name != "postgresql" and any("\0" in value for value in values):
        # Up to 32,000.
        return column.in_(values)
    return _OneOf(column, bindparam(None, values, type_=_Listed()))


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
    # Bypass SQLAlchemy's execution, which creates a dictionary per row. Conditions are others each
    # time: what has one is not kept.
    make = _compiled_upsert if where is None else _compiled_upsert.__wrapped__
    compiled = make(table, tuple(columns), tuple(key), tuple(changed), where)
    values: list[Iterable[object]] = []
    for name in compiled.positiontup or ():
        if name in columns:
            values.append(_for_sqlite(connection, table.c[name], columns[name]))
        else:
            values.append(repeat(compiled.params[name]))
    connection.exec_driver_sql(str(compiled), list(zip(*values)))  # noqa: B905 some are endless


_Insert = TypeVar("_Insert", sqlite.Insert, postgresql.Insert)


def _updating(
    statement: _Insert,
    table: Table,
    key: Sequence[str],
    changed: Sequence[str],
    where: ColumnElement[bool] | None,
) -> _Insert:
    """Return the statement that updates existing rows; an equal one isn't written again.

    What is replayed is mostly there already: a new version of each row and its place in every index
    would cost more than the comparison.
    """
    if not changed:
        return statement.on_conflict_do_nothing(index_elements=key)
    new = {name: statement.excluded[name] for name in changed}
    differs = or_(*(table.c[name].is_distinct_from(value) for name, value in new.items()))
    condition = differs if where is None else and_(where, differs)
    return statement.on_conflict_do_update(index_elements=key, set_=new, where=condition)


@cache
def _compiled_upsert(
    table: Table,
    names: tuple[str, ...],
    key: tuple[str, ...],
    changed: tuple[str, ...],
    where: ColumnElement[bool] | None,
) -> SQLCompiler:
    statement = _updating(sqlite.insert(table), table, key, changed, where)
    compiled = statement.compile(dialect=sqlite.dialect(), column_keys=list(names))
    assert isinstance(compiled, SQLCompiler)
    return compiled


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
    if where is None and not any(isinstance(values, pa.Array) for values in columns.values()):
        statement = _upserting_lists(table, tuple(columns), tuple(key), tuple(changed))
        connection.execute(statement, {f"_{name}": values for name, values in columns.items()})
        return
    arrays = [_array(table.c[name], values) for name, values in columns.items()]
    connection.execute(_from_arrays(table, list(columns), arrays, key, changed, where))


@cache
def _upserting_lists(
    table: Table, names: tuple[str, ...], key: tuple[str, ...], changed: tuple[str, ...]
) -> postgresql.Insert:
    """Return the statement that upserts rows of arrays, the parameters `_name`."""
    arrays = [bindparam(f"_{name}", type_=_array_of(table.c[name])) for name in names]
    return _from_arrays(table, names, arrays, key, changed, None)


def _from_arrays(
    table: Table,
    names: Sequence[str],
    arrays: Sequence[ColumnElement[Any]],
    key: Sequence[str],
    changed: Sequence[str],
    where: ColumnElement[bool] | None,
) -> postgresql.Insert:
    unnested = select(*map(func.unnest, arrays))
    statement = postgresql.insert(table).from_select(list(names), unnested)
    return _updating(statement, table, key, changed, where)


def _array(column: Column[Any], values: Sequence[object] | pa.Array) -> ColumnElement[Any]:
    kind = _array_of(column)
    if not isinstance(values, pa.Array):
        return bindparam(column.name, values, type_=kind)
    # Imported here: psycopg is an extra.
    from beam_fraud.storage.database.postgresql import postgresql_array

    return cast(bindparam(column.name, postgresql_array(values), type_=NullType()), kind)


def _array_of(column: Column[Any]) -> postgresql.ARRAY[Any]:
    return postgresql.ARRAY(column.type, dimensions=1)
