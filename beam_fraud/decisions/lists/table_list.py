"""A list from the table of a database."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Text,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    table,
)
from sqlalchemy.sql import Select

from beam_fraud.decisions.lists.changes import CHANGES, Change
from beam_fraud.decisions.lists.keys import TableKeys
from beam_fraud.decisions.lists.source import ListSource, Update
from beam_fraud.errors import Code, FraudError, UsageError
from beam_fraud.records.event_times import EARLIEST_PLAUSIBLE
from beam_fraud.records.times import as_times
from beam_fraud.storage.database.connection import transaction
from beam_fraud.storage.database.url import (
    FILE_OPTIONS,
    database_file,
    masked,
    parse,
    sqlite_url,
)

#: Rows that are converted together: other threads run in between.
_TOGETHER = 20_000
#: Seconds after which a row is surely visible whose transaction has set the time of its change.
_SETTLED_SECONDS = 30.0
#: Seconds between two comparisons of the whole table where only changes are read.
_COMPARE_SECONDS = 600.0
#: Seconds within which two writes to a file may leave the same time of change.
_SAME_TICK_SECONDS = 2.0
#: Times that stand for never: infinity, and years after 2199.
_FOREVER = r"^(infinity|(2[2-9]|[3-9]\d)\d\d-|\d{5,}-)"

#: The table is another program's: read it without writing, and block none of its writers.
_READ_ONE_STATE = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL TIME ZONE 'UTC'; "
    "SET LOCAL DATESTYLE = 'ISO'; SET LOCAL statement_timeout = '60s'"
)


class TableList(ListSource):
    """The rows of a table: each is an entry.

    With a column of the last change, in which a value stands once, a read costs the rows that
    changed. Otherwise a digest tells whether the table is as it was; if not, it is read as a whole.

    Args:
      name: of the list.
      keys: the table and its columns.
      directory: base of relative paths.

    Raises:
      UsageError: it is no database of a known kind.
    """

    def __init__(self, name: str, keys: TableKeys, directory: Path) -> None:
        self._name, self._keys = name, keys
        with self._named():
            self._url = _absolute(keys.database, directory)
            self._file = database_file(self._url)
        schema, _, bare = keys.name.rpartition(".")
        known = (keys.value, keys.until, keys.reason, keys.who, keys.changed)
        columns: list[ColumnClause[Any]] = [
            column(one) for one in dict.fromkeys(known) if one is not None
        ]
        self._table = table(bare, *columns, schema=schema or None)
        self._value = cast(self._table.c[keys.value], Text)
        self._there = self._table.c[keys.value].is_not(None)
        self._changed = None if keys.changed is None else self._table.c[keys.changed]
        #: Whether rows are read by their last change.
        self._by_change = False
        #: Newest changes with the time of this machine at which they were read.
        self._newest = deque[tuple[float, Any]]()
        self._digest: object = None
        self._compare_next = 0.0

    @property
    def look_seconds(self) -> float:  # type: ignore[override]
        """Less where a look is cheap."""
        return 2.0 if self._by_change or self._file is not None else 4.0

    def read_all(self) -> Update:
        """Return all rows."""
        file_digest = self._file_digest()
        with self._reading() as connection:
            digest = self._server_digest(connection) if self._file is None else file_digest
            _, newest = self._count_and_newest(connection)
            changes = self._changes(connection, None)
        repeated = pc.count_distinct(changes.column("value")).as_py() < changes.num_rows
        if repeated:
            # Of several rows of a value, the one that ends last counts.
            changes = changes.sort_by([("until", "ascending")])
        self._by_change = self._changed is not None and not repeated
        first, self._digest = self._digest is None, digest
        self._note(newest)
        # Transactions that were open at the first read are compared for soon.
        self._compare_next = monotonic() + (_SETTLED_SECONDS if first else _COMPARE_SECONDS)
        return Update(changes, whole=True)

    def read_new(self) -> Update | None:
        """Return the rows that changed, or all."""
        file_digest = self._file_digest()
        if file_digest is not None and file_digest == self._digest:
            return None
        if not self._by_change:
            return self.read_all() if self._is_other() else None
        if monotonic() >= self._compare_next:
            # Rows may have changed without their time, or by a transaction that took long.
            self._compare_next = monotonic() + _COMPARE_SECONDS
            if self._is_other():
                return self.read_all()
        with self._reading() as connection:
            total, newest = self._count_and_newest(connection)
            changes = self._changes(connection, self._settled())
        self._note(newest)
        if self._file is not None:
            self._digest = file_digest
        return Update(changes, total=total)

    def history(self) -> list[Change]:
        """Return the rows: each was added, by whom and why as its columns say."""
        keys = self._keys
        names = (keys.until, keys.reason, keys.who, keys.changed)
        wanted = [_text_of(self._table.c[one]) for one in names if one is not None]
        query: Select[Any] = select(self._value).add_columns(*wanted).where(self._there)
        with self._reading() as connection:
            rows = _texts(connection, query, 1 + len(wanted))
        given = iter(rows.columns[1:])
        nothing = [None] * rows.num_rows
        until, reason, who, at = (next(given) if one is not None else None for one in names)
        columns = (
            rows.column(0).to_pylist(),
            nothing if at is None else _moments(at),
            nothing if who is None else who.to_pylist(),
            nothing if until is None else self._ends(until).to_pylist(),
            nothing if reason is None else reason.to_pylist(),
        )
        changes = [
            Change(value, "add", time, author or "", end, why)
            for value, time, author, end, why in zip(*columns, strict=True)
        ]
        unknown = datetime.min.replace(tzinfo=UTC)
        return sorted(changes, key=lambda change: change.at or unknown)

    def describe(self) -> str:
        """Return the table and its database."""
        return f"table {self._keys.name} of {masked(self._url)}"

    def _count_and_newest(self, connection: Connection) -> tuple[int, Any]:
        """Return the number of rows, and the newest of their changes."""
        newest = literal(None) if self._changed is None else func.max(self._changed)
        query = select(func.count(), newest).select_from(self._table).where(self._there)
        return connection.execute(query).one()._tuple()

    def _note(self, newest: Any) -> None:
        if newest is not None:
            self._newest.append((monotonic(), newest))

    def _settled(self) -> Any:
        """Return a change up to which all rows were read; None if there is none yet."""
        before = monotonic() - _SETTLED_SECONDS
        while len(self._newest) > 1 and self._newest[1][0] <= before:
            self._newest.popleft()
        return self._newest[0][1] if self._newest else None

    def _is_other(self) -> bool:
        """Return whether the table is not as it was when it was read as a whole or compared."""
        if self._file is not None:
            return True
        with self._reading() as connection:
            digest = self._server_digest(connection)
        other, self._digest = digest != self._digest, digest
        return other

    def _server_digest(self, connection: Connection) -> object:
        """Return a digest that the server computes of values and times; rows in any order."""
        until = func.chr(30) if self._until is None else func.coalesce(self._until, func.chr(30))
        row = func.concat(self._value, func.chr(31), until)
        hashed = func.sum(func.hashtextextended(row, 0))
        return connection.execute(select(func.count(), hashed).where(self._there)).one()._tuple()

    def _file_digest(self) -> object:
        """Return what changes with the file of a database; None if that cannot be told."""
        if self._file is None:
            return None
        if not self._file.is_file():
            raise FraudError(
                f"list {self._name}: database {masked(self._url)}: there is no such file",
                Code.DATABASE_FILE,
            )
        found = []
        for path in (self._file, self._file.with_name(f"{self._file.name}-wal")):
            if path.exists():
                stat = path.stat()
                if time() - stat.st_mtime < _SAME_TICK_SECONDS:
                    return None
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    @property
    def _until(self) -> ColumnElement[str] | None:
        return None if self._keys.until is None else _text_of(self._table.c[self._keys.until])

    def _changes(self, connection: Connection, settled: Any) -> pa.Table:
        """Return rows as changes: those from a change on, or all."""
        wanted = [self._value] if self._until is None else [self._value, self._until]
        query = select(*wanted).where(self._there)
        if settled is not None and self._changed is not None:
            # More may change on a day that was read.
            day = len(str(settled)) <= len("2026-01-01") and not isinstance(settled, int)
            later = self._changed >= settled if day else self._changed > settled
            query = query.where(or_(later, self._changed.is_(None)))
        rows = _texts(connection, query, len(wanted))
        until = pa.nulls(rows.num_rows, CHANGES.field("until").type)
        if len(wanted) > 1:
            until = self._ends(rows.column(1))
        return pa.table([rows.column(0), pa.repeat("add", rows.num_rows), until], schema=CHANGES)

    def _ends(self, texts: pa.ChunkedArray) -> pa.Array:
        texts = texts.combine_chunks()
        if texts.null_count == len(texts):
            return pa.nulls(len(texts), CHANGES.field("until").type)
        never = pc.match_substring_regex(texts, _FOREVER).fill_null(False)
        times = as_times(pc.if_else(never, None, texts))
        wrong = int(np.count_nonzero(times.unreadable | times.impossible))
        if wrong:
            raise FraudError(
                f"list {self._name}: {self.describe()}: column {self._keys.until} has {wrong:,} "
                "values that are no times from 1970 on; correct them, or name another column",
                Code.LIST_INVALID,
            )
        return pa.array(times.micros, mask=times.absent).cast(CHANGES.field("until").type)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Begin a transaction that sees one state of the table, with times in UTC."""
        with self._named(), transaction(self._url) as connection:
            if self._file is None:
                connection.exec_driver_sql(_READ_ONE_STATE)
            else:
                connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the list in errors, and call the database as its declaration does."""
        try:
            yield
        except FraudError as error:
            text = str(error).replace("--sink ", "database ")
            if text.startswith(f"list {self._name}:"):
                raise
            raise error.with_message(f"list {self._name}: {text}") from None


def _absolute(url: str, directory: Path) -> str:
    """Return a URL whose paths mean the same in every process.

    Raises:
      UsageError: it is neither a file of SQLite nor a server of PostgreSQL.
    """
    parsed = parse(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database and not parsed.query:
        return sqlite_url(directory.absolute() / Path(parsed.database).expanduser())
    if kind != "postgresql":
        raise UsageError(
            "database: give sqlite:///FILE or postgresql://USER@HOST:PORT/DATABASE", Code.SINK_URL
        )
    if url.startswith("env:"):
        return url
    for name in FILE_OPTIONS:
        path = parsed.query.get(name)
        if isinstance(path, str) and path != "system":
            there = str(directory.absolute() / Path(path).expanduser())
            parsed = parsed.update_query_dict({name: there})
    return parsed.render_as_string(hide_password=False)


def _moments(texts: pa.ChunkedArray) -> list[datetime | None]:
    """Return times of changes; None for numbers of versions, which would be times of 1970."""
    micros = as_times(texts.combine_chunks()).micros
    times = pa.array(micros, mask=micros < EARLIEST_PLAUSIBLE).cast(CHANGES.field("until").type)
    moments: list[datetime | None] = times.to_pylist()
    return moments


def _text_of(one: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(one, Text)


def _texts(connection: Connection, query: Select[Any], width: int) -> pa.Table:
    """Return the texts of a query's columns, string[n] each.

    Raises:
      FraudError: a text is not UTF-8.
    """
    names = [str(number) for number in range(width)]
    parts = [pa.table([pa.array([], pa.string())] * width, names=names)]
    with connection.execute(query) as result:
        # SQLAlchemy's own rows would take most of the time.
        cursor = result.cursor
        assert cursor is not None
        try:
            while rows := cursor.fetchmany(_TOGETHER):
                columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
                parts.append(pa.table(columns, names=names))
        except (connection.dialect.loaded_dbapi.Error, UnicodeError):
            # Its text would show the value.
            raise FraudError("a value is no text in UTF-8", Code.DATABASE_REFUSED) from None
    return pa.concat_tables(parts)
