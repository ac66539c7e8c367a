"""How this process reaches a database: one engine a URL, made when it is needed."""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import lru_cache
from time import monotonic
from typing import Any

import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import NullPool

from beam_fraud.errors import Code, FraudError, install
from beam_fraud.storage.database.postgresql_array import ArrayDumper, PostgresqlArray
from beam_fraud.storage.database.url import connect_arguments, database_file, driver_url, masked

#: Seconds that a server may take to say anything: longer than any time-out of its own.
ANSWER_SECONDS = 150.0


def bounded_connection(*given: Any, **named: Any) -> BoundedConnection:
    """Return a connection for arguments of `psycopg.connect`."""
    connection = BoundedConnection.connect(*given, **named)
    # As text, an array of ten thousand strings takes longer than inserting them.
    connection.adapters.register_dumper(list, ListBinaryDumper)
    connection.adapters.register_dumper(PostgresqlArray, ArrayDumper)
    return connection


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that ends when its server has been silent for too long.

    A machine that is gone is noticed by TCP; a server that hangs on one that works is not.
    """

    #: See `ANSWER_SECONDS`; None for any time.
    answer_seconds: float | None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.answer_seconds = ANSWER_SECONDS

    def wait(self, gen: Any, *given: Any, **named: Any) -> Any:
        """As the base class, for so long."""
        return super().wait(self._bounded(gen), *given, **named)

    def _bounded(self, waiting: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        since = monotonic()
        try:
            needed = next(waiting)
            while True:
                ready = yield needed
                if ready:
                    since = monotonic()
                elif self.answer_seconds is not None and monotonic() - since > self.answer_seconds:
                    # Nobody may use it again: its answer may come yet.
                    self.close()
                    raise psycopg.OperationalError(f"no answer for {self.answer_seconds:g} seconds")
                needed = waiting.send(ready)
        except StopIteration as done:
            return done.value


#: How long SQLite waits for another process's transaction in silence, in seconds.
SILENT_SECONDS = 5.0
#: Connections to a server that are kept, and those that there may be beside them for a moment.
_KEPT, _MORE = 4, 12
#: After so many seconds a kept connection is made anew: firewalls forget old ones.
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
        raise FraudError(
            f"database {masked(url)}: needs psycopg; {install('postgres')}", Code.EXTRA_MISSING
        ) from None

    @event.listens_for(made, "do_connect")
    def _connect(dialect: Any, record: Any, given: Any, arguments: dict[str, Any]) -> Any:

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
