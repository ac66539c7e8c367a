"""Connections of this process to databases: one engine per URL, created on demand."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

from beam_fraud.errors import Code, FraudError, install
from beam_fraud.storage.database.url import connect_arguments, database_file, driver_url, masked

#: Seconds that SQLite itself waits for another process's transaction, unlogged.
SILENT_SECONDS = 5.0
#: Pooled connections to a server, and further temporary ones.
_POOL_SIZE, _MORE = 4, 12
#: Seconds after which a pooled connection is replaced: firewalls drop old ones.
_KEPT_SECONDS = 300


def engine(url: str) -> Engine:
    """Return the engine for a database URL; a forked worker gets its own.

    Raises:
      FraudError: the driver is not installed, or the URL cannot be read.
    """
    return _engine(str(url), os.getpid())


@lru_cache
def _engine(url: str, process: int) -> Engine:
    if database_file(url) is not None:
        # An idle connection would keep a deleted file open, and write to it.
        created = create_engine(
            driver_url(url), poolclass=NullPool, connect_args={"timeout": SILENT_SECONDS}
        )
        event.listen(created, "connect", _tune_sqlite)
        return created
    try:
        created = create_engine(
            driver_url(url),
            pool_size=_POOL_SIZE,
            max_overflow=_MORE,
            pool_recycle=_KEPT_SECONDS,
            # A pooled connection may be to a restarted server.
            pool_pre_ping=True,
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

    return created


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
