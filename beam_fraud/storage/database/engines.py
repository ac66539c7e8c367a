"""Connections of this process to databases: one engine per URL, created on demand."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import NullPool, QueuePool

from beam_fraud.errors import Code, FraudError, install
from beam_fraud.storage.database.url import connect_arguments, database_file, driver_url, masked

#: Seconds that SQLite itself waits for another process's transaction, unlogged.
SILENT_SECONDS = 5.0
#: Pooled connections to a server, and further temporary ones.
_POOL_SIZE, _MORE = 4, 12
#: Seconds after its last use for which a pooled connection to a server is not checked.
_TRUSTED_SECONDS = 1.0
#: Seconds after which a pooled connection is replaced: firewalls drop old ones.
_KEPT_SECONDS = 300
#: Of connections that only read: no transaction begins, so none has to be ended.
_READS: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
#: KiB of a kept connection's cache.
_KEPT_CACHE = 16_384
#: Databases of which a process keeps connections, and their number.
_kept: dict[tuple[str, int], int] = {}


def engine(url: str) -> Engine:
    """Return the engine for a database URL; a forked worker gets its own.

    Raises:
      FraudError: the driver is not installed, or the URL cannot be read.
    """
    key = str(url), os.getpid()
    return _engine(*key, _kept.get(key, 0), reads=False)


def reading_engine(url: str) -> Engine:
    """Return an engine for statements that are transactions of their own.

    Its connections to a server are not those of `engine`: to change one to and fro costs as much
    as a short query.

    Raises:
      FraudError: as `engine`.
    """
    key = str(url), os.getpid()
    return _engine(*key, _kept.get(key, 0), reads=True)


def keep_connections(url: str, number: int) -> None:
    """Keep connections of this process open between transactions, as a server needs.

    Opening one costs more than most queries: SQLite reads the schema, and PostgreSQL starts a
    process.

    Args:
      url: the database.
      number: of transactions that run at once, usually.

    Raises:
      FraudError: as `engine`.
    """
    # Engines by another number are not used again.
    engine(url).dispose()
    reading_engine(url).dispose()
    _kept[str(url), os.getpid()] = number


@lru_cache
def _engine(url: str, process: int, kept: int, *, reads: bool) -> Engine:
    file = database_file(url)
    if file is not None:
        # SQLite's driver begins no transaction for a query.
        return (
            _engine(url, process, kept, reads=False) if reads else _sqlite_engine(url, file, kept)
        )
    try:
        created = create_engine(
            driver_url(url),
            pool_size=max(_POOL_SIZE, kept),
            max_overflow=_MORE,
            pool_recycle=_KEPT_SECONDS,
            **(_READS if reads else {}),
            # Keep keys, ids and amounts of transactions out of messages.
            hide_parameters=True,
        )
    except ModuleNotFoundError:
        raise FraudError(
            f"database {masked(url)}: needs psycopg; {install('postgres')}", Code.EXTRA_MISSING
        ) from None

    @event.listens_for(created, "do_connect")
    def _connect(dialect: Any, record: Any, positional: Any, arguments: dict[str, Any]) -> Any:
        # The package is an extra.
        from beam_fraud.storage.database.postgresql import bounded_connection

        settings = {**arguments, **connect_arguments(url)}
        return bounded_connection(*positional, **settings)

    _check_servers(created)
    return created


def _check_servers(created: Engine) -> None:
    """Check pooled connections before they are used again: their server may have restarted."""

    @event.listens_for(created, "connect")
    @event.listens_for(created, "checkin")
    def _note_use(connection: Any, record: Any) -> None:
        record.info["used"] = monotonic()

    @event.listens_for(created, "checkout")
    def _ping(connection: Any, record: Any, proxy: Any) -> None:
        # Not after each transaction of a busy server: that would be one more round trip.
        if monotonic() - record.info["used"] < _TRUSTED_SECONDS:
            return
        try:
            created.dialect.do_ping(connection)
        except created.dialect.loaded_dbapi.Error:
            raise InvalidatePoolError from None


def _sqlite_engine(url: str, file: Path, kept: int) -> Engine:
    arguments = {"timeout": SILENT_SECONDS}
    if not kept:
        # An idle connection would keep a deleted file open, and write to it.
        created = create_engine(driver_url(url), poolclass=NullPool, connect_args=arguments)
        event.listen(created, "connect", _tune_sqlite)
        return created
    created = create_engine(
        driver_url(url),
        poolclass=QueuePool,
        pool_size=kept,
        max_overflow=_MORE,
        connect_args=arguments,
    )

    @event.listens_for(created, "connect")
    def _note_file(connection: Any, record: Any) -> None:
        _tune_sqlite(connection, record)
        # A cache for each connection: most pages are shared by the system's.
        connection.execute(f"PRAGMA cache_size = -{_KEPT_CACHE}")
        record.info["file"] = _identity(file)

    @event.listens_for(created, "checkout")
    def _check_file(connection: Any, record: Any, proxy: Any) -> None:
        if record.info["file"] != _identity(file):
            raise DisconnectionError("the file was replaced")

    return created


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _tune_sqlite(connection: Any, record: Any) -> None:
    # Page size of a new file: most rows exceed a quarter of SQLite's default.
    connection.execute("PRAGMA page_size = 8192")
    # Transactions of ten thousand rows fit the cache; otherwise they would be written twice.
    connection.execute("PRAGMA cache_size = -65536")
    # Each transaction changes most pages of the indexes: a log of 128 MB copies them back less
    # often.
    connection.execute("PRAGMA wal_autocheckpoint = 16000")
    # After a burst, truncate the log's file to a usual size.
    connection.execute("PRAGMA journal_size_limit = 67108864")
