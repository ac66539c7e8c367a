"""Connections to PostgreSQL that do not wait for ever for a server that has stalled."""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any

import psycopg
from psycopg.types.array import ListBinaryDumper

from beam_fraud.sinks.postgresql_array import ArrayDumper, PostgresqlArray

#: Seconds that a server may take to say anything: longer than any time-out of its own.
ANSWER_SECONDS = 150.0


def bounded_connection(*given: Any, **named: Any) -> BoundedConnection:
    """A connection for arguments of `psycopg.connect`."""
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
