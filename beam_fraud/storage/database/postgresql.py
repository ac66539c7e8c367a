"""Extensions of psycopg: a limit of waiting, and Arrow arrays sent as a whole."""

from __future__ import annotations

import struct
from collections.abc import Generator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper

#: Time limit of a server's response in seconds: longer than its own time-outs.
ANSWER_SECONDS = 150.0
#: Microseconds from 1970 to 2000, PostgreSQL's epoch.
_EPOCH = 946_684_800_000_000
#: Object ids of elements' types, from the catalogue pg_type.
_TEXT, _FLOAT8, _TIMESTAMPTZ = 25, 701, 1184


_NOTHING = pa.scalar(b"", pa.large_binary())


@dataclass(frozen=True)
class PostgresqlArray:
    """An array with one dimension, in the form of PostgreSQL's `array_send`.

    The statement must cast it: it carries no type.
    """

    payload: bytes


class ArrayDumper(Dumper):
    """Dump a `PostgresqlArray` for psycopg."""

    format = Format.BINARY

    def dump(self, obj: PostgresqlArray) -> bytes:
        """Return the bytes to send."""
        return obj.payload


def postgresql_array(values: pa.Array) -> PostgresqlArray:
    """Return an array for PostgreSQL.

    Args:
      values: n texts without NUL characters, nulls allowed, or float64 or timestamps in
        microseconds, without nulls; n is at least 1.

    Raises:
      TypeError: they have another type.
    """
    kind = values.type
    if pa.types.is_string(kind):
        return _array(_TEXT, values, _texts(values))
    if pa.types.is_float64(kind):
        return _array(_FLOAT8, values, _numbers(values, ">f8", 0))
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        return _array(_TIMESTAMPTZ, values, _numbers(values, ">i8", _EPOCH))
    raise TypeError(f"arrays of {kind} are not written to PostgreSQL")


def _array(element: int, values: pa.Array, elements: bytes) -> PostgresqlArray:
    # Number of dimensions, null flag, type; then length and first index of the dimension.
    header = struct.pack(">5i", 1, values.null_count > 0, element, len(values), 1)
    return PostgresqlArray(header + elements)


def _texts(values: pa.Array) -> bytes:
    """Encode texts, each after its length in bytes, -1 for null."""
    lengths = pc.binary_length(values).fill_null(-1).to_numpy().astype(">i4")
    prefixes = pa.Array.from_buffers(pa.binary(4), len(values), [None, pa.py_buffer(lengths)])
    texts = values.fill_null("").cast(pa.large_binary())
    joined = pc.binary_join_element_wise(prefixes.cast(pa.large_binary()), texts, _NOTHING)
    _, offsets, data = joined.buffers()
    first, last = np.frombuffer(offsets, np.int64)[joined.offset :][[0, len(joined)]]
    return memoryview(data)[first:last].tobytes()


def _numbers(values: pa.Array, form: str, less: int) -> bytes:
    """Encode eight bytes each after their length, relative to PostgreSQL's epoch."""
    if values.null_count:
        raise TypeError("numbers and times without a value are not written to PostgreSQL")
    elements = np.empty(len(values), np.dtype([("length", ">i4"), ("value", form)]))
    elements["length"] = 8
    numbers = values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values
    elements["value"] = numbers.to_numpy() - less
    return elements.tobytes()


def bounded_connection(*given: Any, **named: Any) -> BoundedConnection:
    """Return a connection for arguments of `psycopg.connect`."""
    connection = BoundedConnection.connect(*given, **named)
    # In text form, an array of ten thousand strings takes longer than its insertion.
    connection.adapters.register_dumper(list, ListBinaryDumper)
    connection.adapters.register_dumper(PostgresqlArray, ArrayDumper)
    return connection


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that closes when its server is silent for too long.

    TCP notices a machine that is gone, but not a server that hangs on a working one.
    """

    #: Time limit of a response, `ANSWER_SECONDS`; None for no limit.
    answer_seconds: float | None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.answer_seconds = ANSWER_SECONDS

    def wait(self, gen: Any, *given: Any, **named: Any) -> Any:
        """Wait as the base class does, with the time limit."""
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
                    # Close it: its response may still arrive.
                    self.close()
                    raise psycopg.OperationalError(f"no answer for {self.answer_seconds:g} seconds")
                needed = waiting.send(ready)
        except StopIteration as done:
            return done.value
