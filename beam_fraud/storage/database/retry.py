"""Retry transactions while a database is down, slow, locked or full."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from beam_fraud.monitoring.waiting import Wait
from beam_fraud.storage.database.connection import writing
from beam_fraud.storage.database.engines import engine
from beam_fraud.storage.database.errors import (
    FullDatabaseError,
    PassingDatabaseError,
    one_line_errors,
)
from beam_fraud.storage.database.url import masked

_LOG = logging.getLogger(__name__)
#: Default seconds of retries of a transaction.
PATIENCE = 300.0
#: Seconds per attempt: to wait for a lock, and for one statement.
_LOCK_SECONDS, _STATEMENT_SECONDS = 5.0, 120.0
#: Maximum of the first pause in seconds; it doubles for each later one.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 15.0
#: URLs of databases given up, until a transaction succeeds.
_down: set[str] = set()

T = TypeVar("T")


class PersistentConnection:
    """A connection that opens on demand and reconnects after a failure."""

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self._url = url
        self._patience = patience
        self._connection: Connection | None = None

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a write transaction, committed when this returns.

        Transient errors lead to retries with growing pauses, as does a commit of unknown outcome:
        `work` must be idempotent. If a database is down for longer than `patience`, later calls try
        once. A full disk is not waited for.

        Raises:
          PassingDatabaseError: it failed all that time, or the disk is full.
          FraudError: a permanent error, at once.
        """
        patience = patience_left(self._url, self._patience)
        try:
            done = until_it_passes(self._url, lambda: self._once(work), patience)
        except PassingDatabaseError as error:
            if not isinstance(error, FullDatabaseError):
                give_up(self._url)
            raise
        _down.discard(self._url)
        return done

    def close(self) -> None:
        """Close the connection; `write` opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with one_line_errors(self._url):
                connection.close()

    def _once(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                with one_line_errors(self._url):
                    self._connection = engine(self._url).connect()
            with writing(
                self._url,
                self._connection,
                patience=_LOCK_SECONDS,
                longest=_STATEMENT_SECONDS,
            ) as connection:
                return work(connection)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        """Discard the connection in any state."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except Exception:
                _LOG.debug("a broken connection cannot be closed", exc_info=True)


def give_up(url: str) -> None:
    """Make later transactions of this process try a database once, until one succeeds."""
    _down.add(url)


def patience_left(url: str, patience: float) -> float:
    """Return the seconds to wait for a database: 0 once it was given up."""
    return 0.0 if url in _down else patience


def until_it_passes(url: str, work: Callable[[], T], patience: float) -> T:
    """Retry `work` on a database after transient errors, with growing pauses.

    Waiting does not mend a full disk, so that is tried once.

    Args:
      url: the database, for messages.
      work: idempotent function that raises `PassingDatabaseError` on transient errors.
      patience: seconds of retries.

    Raises:
      PassingDatabaseError: it failed all that time, or the disk is full.
      FraudError: a permanent error, at once.
    """
    wait = Wait(_LOG)

    def tell(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        wait.goes_on(f"{error}; trying again for up to {patience:g} seconds")

    retrying = Retrying(
        retry=retry_if_exception(_passes_by_waiting),
        wait=wait_random_exponential(_FIRST_PAUSE, _LONGEST_PAUSE, min=_FIRST_PAUSE / 2),
        stop=stop_after_delay(patience),
        before_sleep=tell,
        reraise=True,
    )
    done: T = retrying(work)
    wait.over(f"database {masked(url)}: back")
    return done


def _passes_by_waiting(error: BaseException) -> bool:
    return isinstance(error, PassingDatabaseError) and not isinstance(error, FullDatabaseError)


def persistently(url: str, work: Callable[[Connection], T], patience: float = PATIENCE) -> T:
    """Run `PersistentConnection.write` on a temporary connection."""
    connection = PersistentConnection(url, patience)
    try:
        return connection.write(work)
    finally:
        connection.close()
