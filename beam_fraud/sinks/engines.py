"""How this process reaches a database: one engine a URL, made when it is needed."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

from beam_fraud.errors import FraudError
from beam_fraud.extras import install
from beam_fraud.sinks.database_url import connect_arguments, database_file, driver_url, masked

#: How long SQLite waits for another process's transaction in silence, in seconds.
SILENT_SECONDS = 5.0
#: Connections to a server that are kept, and those that there may be beside them for a moment.
_KEPT, _MORE = 4, 12
#: After so many seconds a kept connection is made anew: firewalls forget old ones.
_KEPT_SECONDS = 300


def engine(url: str) -> Engine:
    """The engine for a database URL; a forked worker gets its own.

    Raises:
      FraudError: the driver is not installed, or the URL cannot be read.
    """
    return _engine(str(url), os.getpid())


@lru_cache
def _engine(url: str, process: int) -> Engine:
    if database_file(url) is not None:
        # An idle connection would keep a deleted file alive, and write to it.
        made = create_engine(
            driver_url(url), poolclass=NullPool, connect_args={"timeout": SILENT_SECONDS}
        )
        event.listen(made, "connect", _tune_sqlite)
        return made
    try:
        made = create_engine(
            driver_url(url),
            pool_size=_KEPT,
            max_overflow=_MORE,
            pool_recycle=_KEPT_SECONDS,
            # A kept connection may be to a server that has been restarted.
            pool_pre_ping=True,
            # Keys, ids and amounts of transactions are not for messages.
            hide_parameters=True,
        )
    except ModuleNotFoundError:
        raise FraudError(f"database {masked(url)}: needs psycopg; {install('postgres')}") from None

    @event.listens_for(made, "do_connect")
    def _connect(dialect: Any, record: Any, given: Any, arguments: dict[str, Any]) -> Any:
        from beam_fraud.sinks.postgresql_connection import bounded_connection

        settings = {**arguments, **connect_arguments(url)}
        return bounded_connection(*given, **settings)

    return made


def _tune_sqlite(connection: Any, record: Any) -> None:
    # Of a new file: most rows are longer than a quarter of SQLite's own choice.
    connection.execute("PRAGMA page_size = 8192")
    # Transactions of ten thousand rows fit; they would be written twice.
    connection.execute("PRAGMA cache_size = -65536")
    # Of the indexes each transaction changes most pages: 128 MB of log copy them back less often.
    connection.execute("PRAGMA wal_autocheckpoint = 16000")
    # After a burst, the log's file is cut to what most days need.
    connection.execute("PRAGMA journal_size_limit = 67108864")
