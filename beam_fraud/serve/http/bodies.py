"""Bodies of predictions: JSON objects and arrays, and Arrow IPC streams."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.records.json_records import tolerant_json
from beam_fraud.records.plain_records import JsonArray
from beam_fraud.schema.schema import Labels, Schema
from beam_fraud.serve.http.problems import Problem, Refused
from beam_fraud.serve.predictions import Call
from beam_fraud.sources.columnar import columns_read, selected
from beam_fraud.sources.columns import check_columns
from beam_fraud.sources.file_format import BYTE_ORDER_MARK

JSON: Final = b"application/json"
ARROW: Final = b"application/vnd.apache.arrow.stream"
_OBJECT = msgspec.json.Decoder(msgspec.Raw)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_BLANK, _COMMA = b" \t\r\n", ord(",")
#: Maximum of fields of a struct that decodes an array: its definition takes 4 µs for each.
_WIDEST = 20_000
#: What decoding damaged Arrow raises.
_UNREADABLE = (
    *(pa.ArrowException, struct.error, OSError, EOFError, MemoryError),
    *(ValueError, TypeError, LookupError, OverflowError),
)
#: Where an error about columns names one.
_COLUMN = re.compile(r"column '([^']*)'")
#: Kinds of messages of Arrow's format (Message.fbs: MessageHeader).
_DICTIONARY, _BATCH = 2, 3


def json_call(
    body: bytes, most: int, *, record: bool, features: bool, alone: bool = False
) -> tuple[Call, bool]:
    """Return the call of a JSON body, and whether the body is an array.

    Args:
      body: the body.
      most: maximum of records.
      record, features, alone: of the call.

    Raises:
      Refused: it is no JSON, neither an object nor an array, or has too many records.
    """
    first = body[:1]
    if first not in (b"{", b"["):
        # A byte order mark is not part of the records.
        body = body.removeprefix(BYTE_ORDER_MARK).lstrip(_BLANK)
        first = body[:1]
    try:
        if first == b"{":
            _OBJECT.decode(body)
            return Call((body,), None, record, features, alone), False
        if first == b"[":
            elements = _elements(body, most)
            _check_rows(len(elements), most)
            return Call(JsonArray(body, elements), None, record, features), True
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return _tolerant(body, most, error, record=record, features=features)
    raise Refused(
        Problem(
            400,
            "malformed_json",
            "the body is neither a JSON object nor an array",
            "send one transaction as an object, or several as an array of objects",
        )
    )


def _elements(body: bytes, most: int) -> Sequence[msgspec.Raw]:
    """Return the elements of an array; stop where there are too many.

    An object for each of two million numbers would take the event loop a third of a second.
    """
    # An element and its comma have at least two bytes.
    few = len(body) <= 2 * most or _commas(body) < most
    if few or most > _WIDEST:
        return _ARRAY.decode(body)
    try:
        row = _limited(most).decode(body)
    except msgspec.ValidationError:
        raise _too_many_rows(most) from None
    return [one for one in msgspec.structs.astuple(row) if one is not msgspec.UNSET]


def _commas(body: bytes) -> int:
    # A third of the time that `bytes.count` takes.
    return int(np.count_nonzero(np.frombuffer(body, dtype=np.uint8) == _COMMA))


@lru_cache(maxsize=2)
def _limited(most: int) -> msgspec.json.Decoder[Any]:
    """Return a decoder of arrays of up to `most` elements, as the fields of a struct."""
    fields = [(f"e{number}", msgspec.Raw, msgspec.UNSET) for number in range(most)]
    return msgspec.json.Decoder(
        msgspec.defstruct("Elements", fields, array_like=True, forbid_unknown_fields=True, gc=False)
    )


def _tolerant(
    body: bytes, most: int, error: Exception, *, record: bool, features: bool
) -> tuple[Call, bool]:
    """Return the call of JSON with NaN or Infinity, which are no JSON but frequent."""
    try:
        value = tolerant_json(body)
    except (ValueError, RecursionError):
        # The decoder's message names the place, not the value.
        detail = str(error) if isinstance(error, msgspec.MsgspecError) else "not UTF-8 or too deep"
        raise Refused(
            Problem(400, "malformed_json", detail, "send JSON (RFC 8259) in UTF-8")
        ) from None
    if isinstance(value, list):
        _check_rows(len(value), most)
        return Call([json.dumps(one).encode() for one in value], None, record, features), True
    return Call((body,), None, record, features), False


@dataclass(frozen=True)
class Columns:
    """The columns that are read of Arrow bodies."""

    #: The schema that transactions are read by.
    schema: Schema
    #: Treatment of labels.
    labels: Labels
    #: A wider schema, whose columns are kept where they are there: a model that reads more of them
    #: may come into force before the rows are scored. None for the same.
    widest: Schema | None = None

    def of(self, table: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns and paths that the schema reads, as of a file.

        Raises:
          Refused: a column is missing, repeated or of another type.
        """
        try:
            check_columns("the Arrow stream", table.schema, self.schema, labels=self.labels)
        except FraudError as error:
            column = _COLUMN.search(str(error))
            fix = "send the columns and types that /openapi.json names"
            raise Refused(Problem(422, error.code, str(error), fix, column and column[1])) from None
        kept = self.widest or self.schema
        return selected(table, columns_read(table.schema, kept, labels=self.labels))


def arrow_call(body: bytes, most: int, columns: Columns, *, record: bool, features: bool) -> Call:
    """Return the call of an Arrow IPC stream.

    Args:
      body: the body.
      most: maximum of rows.
      columns: what is read of it.
      record, features: of the call.

    Raises:
      Refused: it is no such stream, is compressed, has too many rows, or lacks a column.
    """
    try:
        _check_messages(body, most)
        batches = []
        with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
            for batch in reader:
                # Offsets and lengths of a client may lead anywhere.
                batch.validate(full=True)
                batches.append(batch)
            table = pa.Table.from_batches(batches, reader.schema).combine_chunks()
        rows = table.to_batches()
        batch = rows[0] if rows else pa.RecordBatch.from_pylist([], schema=table.schema)
        batch = columns.of(batch)
    except _UNREADABLE:
        raise Refused(
            Problem(
                400,
                "malformed_arrow",
                "the body is no valid Arrow IPC stream",
                "write it with a stream writer of Arrow (RecordBatchStreamWriter)",
            )
        ) from None
    return Call((), batch, record, features)


def _check_rows(rows: int, most: int) -> None:
    if rows > most:
        raise _too_many_rows(most)


def _too_many_rows(most: int) -> Refused:
    return Refused(
        Problem(
            413,
            "too_many_rows",
            f"the body has more than {most:,} rows",
            "send them in several requests",
        )
    )


def _check_messages(body: bytes, most: int) -> None:
    """Refuse compressed buffers and too many rows before Arrow allocates memory for them."""
    rows = 0
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
        metadata = _Table.root(message.metadata.to_pybytes())
        kind = metadata.byte(1)
        if kind not in (_DICTIONARY, _BATCH):
            continue
        batch = metadata.table(2)
        if batch is not None and kind == _DICTIONARY:
            batch = batch.table(1)
        if batch is None:
            continue
        if batch.has(3):
            raise Refused(
                Problem(
                    415,
                    "compressed_arrow",
                    "the buffers of the Arrow stream are compressed",
                    "write it without compression",
                    "Content-Type",
                )
            )
        length = batch.long(0)
        _check_rows(length, most)
        rows += length if kind == _BATCH else 0
    _check_rows(rows, most)


class _Table:
    """A table of a FlatBuffer that Arrow has verified."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - struct.unpack_from("<i", data, at)[0]

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _place(self, field: int) -> int | None:
        size = struct.unpack_from("<H", self._data, self._fields)[0]
        entry = 4 + 2 * field
        if entry >= size:
            return None
        offset = struct.unpack_from("<H", self._data, self._fields + entry)[0]
        return self._at + offset if offset else None

    def has(self, field: int) -> bool:
        return self._place(field) is not None

    def byte(self, field: int) -> int:
        place = self._place(field)
        return 0 if place is None else self._data[place]

    def long(self, field: int) -> int:
        place = self._place(field)
        return 0 if place is None else int(struct.unpack_from("<q", self._data, place)[0])

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        if place is None:
            return None
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])
