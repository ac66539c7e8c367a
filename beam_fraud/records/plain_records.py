"""Read plain JSON records at the cost of their values, not of a column's many checks.

`records.parse` and `records.validate` take some fifty calls of Arrow, whether for one row or for
ten thousand. This module accepts only records whose every value is written plainly, and gives
exactly the same transactions; the general way reads all others. A few records, as of requests of
one row, are read value by value, more of them column by column. Of a thousand records all times
have to be written alike, and ids of a column be all numbers or all texts. An array of objects that
are written alike takes a third of the time again (`alike_records`).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any, TypeAlias, overload

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import astuple

from beam_fraud.records.alike_records import Written, alike_members
from beam_fraud.records.event_times import EARLIEST_PLAUSIBLE
from beam_fraud.records.identifiers import shortened
from beam_fraud.records.json_records import lenient_text
from beam_fraud.records.text import together
from beam_fraud.schema.notation import ANY_TIME, PLAIN, PLAIN_TEXT, ZERO_OR_ONE
from beam_fraud.schema.schema import EVENT_TIME, Labels, Schema
from beam_fraud.sources.nested import steps_of
from beam_fraud.sources.raw import POSITION, Origin, with_origin

#: Rows up to which values are read one by one.
FEW_ROWS = 64
#: Ids that no notation, spelling or rounding can mean otherwise; and which bytes are in them.
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_LONGEST_ID = 64
_OF_IDS = np.array([_ID.fullmatch(chr(byte)) is not None for byte in range(256)])
#: Whole numbers as programs write them in columns with gaps.
_WHOLE_FLOAT = re.compile(r"-?[0-9]+\.0", re.ASCII)
#: Times that Arrow and Python read alike: local or UTC, of the years from 1990 to 2099.
_TIME = re.compile(
    r"(?:199|20[0-9])[0-9]-[01][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
    r"(?:\.[0-9]{1,6})?(Z?)",
    re.ASCII,
)
#: Integers that have 64 bits, and digits of those that certainly do.
_EXACT, _EXACT_DIGITS = 1 << 63, 18
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_ZERO, _DIGITS = np.uint8(ord("0")), 10
#: Which bytes are in numbers without a sign or an exponent.
_OF_NUMBERS = np.array([chr(byte) in "0123456789." for byte in range(256)])
#: Limit of a number: far below what a model or a window refuses.
_LARGE = 1e9

#: Type: returns the value of a column, or `_NOT_PLAIN`.
_Reader: TypeAlias = Callable[[Any], Any]
#: Type: returns the column of more than a few values, or None if one is not plain.
_ColumnReader: TypeAlias = Callable[[Sequence[Any]], pa.Array | None]
#: Type: returns the same of values as they are written.
_WrittenReader: TypeAlias = Callable[[Written], pa.Array | None]
#: Type: the three of a column; the last is None where what is written does not say the value.
_Readers: TypeAlias = tuple[_Reader, _ColumnReader, _WrittenReader | None]
#: Type: a transaction, column to value.
PlainRow: TypeAlias = dict[str, Any]


class JsonArray(Sequence[bytes]):
    """The elements of a JSON array, each a copy of its part.

    Args:
      body: the array.
      elements: its n elements.
    """

    def __init__(self, body: bytes, elements: Sequence[msgspec.Raw]) -> None:
        self.body = body
        self._elements = elements

    def __len__(self) -> int:
        return len(self._elements)

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self._elements)

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...

    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [bytes(one) for one in self._elements[place]]
        return bytes(self._elements[place])


@dataclass(frozen=True)
class _Column:
    """A column of the transactions."""

    name: str
    #: Its Arrow type.
    type: pa.DataType
    #: Member of the record, or None for a column of nulls.
    member: int | None
    read: _Reader
    read_many: _ColumnReader
    read_written: _WrittenReader | None


class PlainRecords:
    """Reads plain records of a schema."""

    def __init__(self, schema: Schema, labels: Labels, origin: Origin) -> None:
        """Prepare the reading; `of` checks the schema before."""
        described = schema.transactions(labels=labels).append(pa.field(POSITION, pa.int64()))
        self._described = with_origin(described, origin)
        names = schema.columns(labels=labels)
        kinds = {f.column: f.kind for f in schema.features}
        lenient = frozenset(f.column for f in schema.features if f.missing == "linking")
        roles = schema.roles
        absent = frozenset(schema.absent_ids)
        zone_matters = schema.time.naive is None and schema.timezone != "UTC"

        def identifier(value: Any) -> Any:
            if type(value) is int:
                return str(value) if -_EXACT < value < _EXACT else _NOT_PLAIN
            plain = type(value) is str and _ID.fullmatch(value) and value not in absent
            return value if plain else _NOT_PLAIN

        def text(value: Any) -> Any:
            if type(value) is str and _ID.fullmatch(value) and value not in absent:
                return value
            read = lenient_text(value)
            if read is None or "\0" in read:
                return None
            if schema.reading >= 2 and _WHOLE_FLOAT.fullmatch(read):
                read = read[:-2]
            return None if not read or read in absent else shortened(read)

        def texts(values: Sequence[Any]) -> pa.Array:
            return pa.array(list(map(text, values)), pa.string())

        def time(value: Any) -> Any:
            match = _TIME.fullmatch(value) if type(value) is str else None
            if match is None or (zone_matters and not match[1]):
                return _NOT_PLAIN
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                return _NOT_PLAIN
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - _EPOCH) // _MICROSECOND

        def number(value: Any) -> Any:
            plain = type(value) in (float, int) and -_LARGE < value < _LARGE
            return float(value) if plain else _NOT_PLAIN

        def amount(value: Any) -> Any:
            # A negative zero is written plainly, and is an amount.
            plain = type(value) in (float, int) and 0 <= value < _LARGE
            return float(value) if plain else _NOT_PLAIN

        identifiers: _Readers = (
            *(identifier, partial(_identifiers, absent)),
            partial(_written_identifiers, absent),
        )
        times: _Readers = (
            *(time, partial(_times, zone_matters=zone_matters)),
            partial(_written_times, zone_matters=zone_matters),
        )
        label: _Readers = (_label, _labels, _written_labels)
        readers: dict[str, tuple[str | None, _Readers]] = {
            "transaction_id": (roles.get("transaction_id"), identifiers),
            "event_time": (roles["event_time"], times),
            "account_id": (roles.get("account_id"), identifiers),
            "merchant_id": (roles.get("merchant_id"), identifiers),
            "amount": (roles["amount"], (amount, partial(_numbers, least=0.0), _written_numbers)),
            "label": (roles.get("label"), label),
            "labelled_at": (None, label),
        }
        self._columns = list[_Column]()
        for field in self._described:
            if field.name == POSITION:
                continue
            categorical = kinds.get(field.name) != "numeric"
            usual: _Readers = identifiers if categorical else (number, _numbers, _written_numbers)
            usual = (text, texts, None) if field.name in lenient else usual
            column, both = readers.get(field.name, (field.name, usual))
            place = None if column is None else names.index(column)
            self._columns.append(_Column(field.name, field.type, place, *both))
        known = labels != "ignored" and "labelled_at" in roles
        #: A transaction of nulls; name, member and reader of each column with values.
        self._nulls: PlainRow = dict.fromkeys(column.name for column in self._columns)
        self._readers = [
            (one.name, one.member, one.read) for one in self._columns if one.member is not None
        ]
        #: Member of the label's time, which a plain record lacks.
        self._lacking = [names.index(roles["labelled_at"])] if known else []
        #: Members by which an array of objects that are written alike is read; None if it is not.
        self._alike: frozenset[str] | None = None
        if not (self._lacking or any(c.read_written is None for c in self._columns)):
            self._alike = frozenset(names[c.member] for c in self._columns if c.member is not None)
        self._names = names
        fields: list[tuple[str, Any, Any]] = [(f"f{i}", Any, None) for i in range(len(names))]
        rename = {f"f{i}": name for i, name in enumerate(names)}
        record = msgspec.defstruct("PlainRecord", fields, rename=rename, gc=False)
        self._decode = msgspec.json.Decoder(record).decode
        self._decode_array = msgspec.json.Decoder(list[record]).decode  # type: ignore[valid-type]

    @classmethod
    def of(cls, schema: Schema, labels: Labels, origin: Origin) -> PlainRecords | None:
        """Return the reader of a schema; None if it describes dress, or lacks ids.

        Args:
          schema: schema of the records.
          labels: treatment of labels.
          origin: origin of the records, for the metadata of batches.
        """
        plain = (
            "transaction_id" in schema.roles
            and "currency" not in schema.roles
            and labels != "required"
            and schema.conversion is None
            and not (schema.composites or schema.ids or schema.numbers)
            and schema.time == ANY_TIME
            and schema.labels == ZERO_OR_ONE
            and schema.source == PLAIN_TEXT
            and schema.notation_of(schema.roles["amount"]) == PLAIN
            and all(steps_of(column) is None for column in schema.columns(labels=labels))
        )
        return cls(schema, labels, origin) if plain else None

    def values(self, record: bytes, latest: int) -> PlainRow | None:
        """Return the transaction of a record; None if it is not plain.

        Args:
          record: a JSON object.
          latest: event time from which a row is too far ahead, microseconds.

        Returns:
          Columns of `Schema.transactions` to values: text, numbers, microseconds, None for null.
        """
        try:
            members = astuple(self._decode(record))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        for place in self._lacking:
            if members[place] is not None:
                return None
        row = self._nulls.copy()
        for name, member, read in self._readers:
            value = row[name] = read(members[member])
            if value is _NOT_PLAIN:
                return None
        time = row["event_time"]
        return row if EARLIEST_PLAUSIBLE <= time <= latest else None

    def read(
        self,
        records: Sequence[bytes],
        first: int,
        latest: int,
    ) -> pa.RecordBatch | None:
        """Return the transactions of n records; None if one of them is not plain.

        Args:
          records: JSON objects; each was checked by itself, as parts of one could complete another.
          first: position of the first.
          latest: event time from which a row is too far ahead, microseconds.

        Returns:
          n rows of `Schema.transactions`, then `@position`, the origin in the metadata.
        """
        if not records:
            return None
        if len(records) > FEW_ROWS:
            return self._by_columns(records, first, latest)
        rows: list[PlainRow] = []
        for record in records:
            row = self.values(record, latest)
            if row is None:
                return None
            rows.append(row)
        arrays = list[pa.Array]()
        for column in self._columns:
            if column.member is None:
                arrays.append(_nulls(len(rows), column.type))
                continue
            values = [row[column.name] for row in rows]
            if column.type == EVENT_TIME:
                arrays.append(pa.array(np.array(values, dtype=np.int64)).view(EVENT_TIME))
            elif column.type == pa.float64():
                arrays.append(pa.array(np.array(values, dtype=np.float64)))
            else:
                arrays.append(pa.array(values, column.type))
        return self._batch(arrays, first)

    def _by_columns(
        self, records: Sequence[bytes], first: int, latest: int
    ) -> pa.RecordBatch | None:
        if isinstance(records, JsonArray) and self._alike is not None:
            written = alike_members(records.body, len(records), self._alike)
            alike = None if written is None else self._of_written(written, first, latest)
            if alike is not None:
                return alike
        try:
            # One call for all takes half the time. None can end in another, as all are whole.
            if isinstance(records, JsonArray):
                body = records.body
            else:
                body = b"[" + b",".join(records) + b"]"
            rows = list(map(astuple, self._decode_array(body)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if len(rows) != len(records):
            # One of them is not one object.
            return None
        members, arrays = list(zip(*rows, strict=True)), list[pa.Array]()
        if any(value is not None for place in self._lacking for value in members[place]):
            return None
        for column in self._columns:
            if column.member is None:
                arrays.append(_nulls(len(rows), column.type))
                continue
            values = column.read_many(members[column.member])
            if values is None:
                return None
            if column.type == EVENT_TIME and not _plausible(values, latest):
                return None
            arrays.append(values)
        return self._batch(arrays, first)

    def _of_written(
        self, written: Mapping[str, Written], first: int, latest: int
    ) -> pa.RecordBatch | None:
        arrays, rows = list[pa.Array](), len(next(iter(written.values())).texts)
        for column in self._columns:
            if column.member is None:
                arrays.append(_nulls(rows, column.type))
                continue
            assert column.read_written is not None
            values = column.read_written(written[self._names[column.member]])
            if values is None or (column.type == EVENT_TIME and not _plausible(values, latest)):
                return None
            arrays.append(values)
        return self._batch(arrays, first)

    def _batch(self, arrays: list[pa.Array], first: int) -> pa.RecordBatch:
        arrays.append(pa.array(np.arange(first, first + len(arrays[0]), dtype=np.int64)))
        return pa.RecordBatch.from_arrays(arrays, schema=self._described)


@lru_cache(maxsize=128)
def _nulls(rows: int, type: pa.DataType) -> pa.Array:
    return pa.nulls(rows, type)


#: Result for a value that is not written plainly.
_NOT_PLAIN = object()


def _label(value: Any) -> Any:
    plain = value is None or (type(value) is int and value in (0, 1))
    return value if plain else _NOT_PLAIN


def _identifiers(absent: frozenset[str], values: Sequence[Any]) -> pa.Array | None:
    kinds = set(map(type, values))
    if kinds == {int}:
        try:
            return pa.array(np.frombuffer(array("q", values), dtype=np.int64)).cast(pa.string())
        except OverflowError:
            return None
    if kinds != {str} or not absent.isdisjoint(values):
        return None
    column = _texts(values)
    return column if column is not None and _are_ids(column) else None


def _are_ids(column: pa.StringArray) -> bool:
    """Return whether each of n > 0 texts is an id by its characters and length."""
    lengths = _lengths(column)
    if lengths.min() == 0 or lengths.max() > _LONGEST_ID:
        return False
    return bool(_OF_IDS[np.frombuffer(together(column), dtype=np.uint8)].all())


def _written_identifiers(absent: frozenset[str], values: Written) -> pa.Array | None:
    column = values.texts
    if not values.quoted:
        # Not a negative zero, which is the integer 0; JSON has no leading zeros.
        digits = np.frombuffer(together(column), dtype=np.uint8) - _ZERO < _DIGITS
        return column if digits.all() and _lengths(column).max() <= _EXACT_DIGITS else None
    if not _are_ids(column) or (absent and pc.any(pc.is_in(column, _values(absent))).as_py()):
        return None
    return column


@lru_cache(maxsize=16)
def _values(texts: frozenset[str]) -> pa.StringArray:
    return pa.array(texts, pa.string())


def _times(values: Sequence[Any], *, zone_matters: bool) -> pa.Array | None:
    if set(map(type, values)) != {str}:
        return None
    column = _texts(values)
    return None if column is None else _times_of(column, zone_matters=zone_matters)


def _written_times(values: Written, *, zone_matters: bool) -> pa.Array | None:
    return _times_of(values.texts, zone_matters=zone_matters) if values.quoted else None


def _times_of(column: pa.StringArray, *, zone_matters: bool) -> pa.Array | None:
    """Return the times of n > 0 texts; None if they are not all written alike and plainly."""
    text = together(column)
    if not text.isascii():
        # Perhaps no text at all.
        return None
    first = column[0].as_py()
    match = _TIME.fullmatch(first)
    if match is None or (zone_matters and not match[1]) or (_lengths(column) != len(first)).any():
        return None
    # All as the first: digits where it has digits, else the same characters.
    written = np.frombuffer(text, dtype=np.uint8)
    digits = written - _ZERO
    pattern = (written - digits * (digits < _DIGITS)).tobytes()
    if pattern != pattern[: len(first)] * len(column):
        return None
    try:
        return column.cast(pa.timestamp("us", "UTC" if match[1] else None)).view(EVENT_TIME)
    except pa.ArrowInvalid:
        return None


def _plausible(times: pa.Array, latest: int) -> bool:
    micros = np.asarray(times.view(pa.int64()))
    return bool(micros.min() >= EARLIEST_PLAUSIBLE and micros.max() <= latest)


def _written_numbers(values: Written) -> pa.Array | None:
    """Return numbers of at least 0; others may be written so that their reading depends on it."""
    column = values.texts
    if values.quoted or not _OF_NUMBERS[np.frombuffer(together(column), dtype=np.uint8)].all():
        return None
    # Python and Arrow both return the nearest number.
    numbers = column.cast(pa.float64())
    return numbers if numbers.to_numpy().max() < _LARGE else None


def _written_labels(values: Written) -> pa.Array | None:
    digits = np.frombuffer(together(values.texts), dtype=np.uint8) - _ZERO
    if values.quoted or len(digits) != len(values.texts) or digits.max() > 1:
        return None
    return pa.array(digits.view(np.int8))


def _numbers(values: Sequence[Any], *, least: float = -_LARGE) -> pa.Array | None:
    if not {int, float}.issuperset(map(type, values)):
        return None
    try:
        numbers = np.frombuffer(array("d", values))
    except OverflowError:
        return None
    return pa.array(numbers) if numbers.min() >= least and np.abs(numbers).max() < _LARGE else None


def _labels(values: Sequence[Any]) -> pa.Array | None:
    if not {int, type(None)}.issuperset(map(type, values)) or not {0, 1, None}.issuperset(values):
        return None
    return pa.array(values, pa.int8())


def _texts(values: Sequence[str]) -> pa.StringArray | None:
    try:
        return pa.array(values, pa.string())
    except UnicodeError:
        return None


def _lengths(column: pa.StringArray) -> npt.NDArray[np.int32]:
    ends = np.frombuffer(column.buffers()[1], dtype=np.int32, count=len(column) + 1)
    return ends[1:] - ends[:-1]
