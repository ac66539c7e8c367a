"""Encode the delta of a batch to a velocity state: rows, labels, and the clock after them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.event_clock import NEVER, ClockState, EventClock
from beam_fraud.features.hashing import Hashes, other_hash
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows

Mask = npt.NDArray[np.bool_]

#: Header: version, flags, number of rows, of labels with an id, and without.
_HEADER = struct.Struct("<BBqqq")
#: Versions without and with a fingerprint of the id hash after the header; and with both a
#: fingerprint and hashes of the currencies.
_UNKEYED, _KEYED, _CURRENCIES = 1, 2, 3
#: Added to the version if the state of the clock follows the columns (`ClockState.words`).
_CLOCK = 8
_FINGERPRINT = struct.Struct("<q")
#: A delta of one row: header, fingerprint, key, time and amount.
_ONE_ROW = struct.Struct("<BBqqqqQqq")
_NO_HASHES = np.zeros(0, dtype=np.uint64)
_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Labels:
    """New labels in order of arrival."""

    #: The labelled transactions; `row` is unused.
    frauds: Frauds
    #: bool[m], fraud or genuine.
    fraud: Mask

    def take(self, labels: Mask) -> Labels:
        """Return some labels, by mask."""
        return Labels(self.frauds.take(labels), self.fraud[labels])


NO_ROWS = KeyRows(_NO_HASHES, _NOTHING, _NOTHING)
NO_LABELS = Labels(
    Frauds(_NO_HASHES, _NOTHING, _NOTHING, None, _NO_HASHES), np.zeros(0, dtype=np.bool_)
)


NO_NAMELESS = Frauds(_NO_HASHES, _NOTHING, _NOTHING)


@dataclass(frozen=True)
class StateDelta:
    """The delta of a batch."""

    #: n rows in order of arrival.
    rows: KeyRows = NO_ROWS
    #: Labels of transactions with an id.
    labels: Labels = NO_LABELS
    #: Frauds whose transactions have no id.
    nameless: Frauds = NO_NAMELESS
    #: The event clock after the rows; None if that is not known.
    clock: ClockState | None = None

    @classmethod
    def of(cls, rows: KeyRows, frauds: Frauds | None) -> StateDelta:
        """Return the delta of the arguments of `VelocityState.update` or `add`."""
        if frauds is None or not len(frauds):
            return cls(rows)
        if frauds.transaction is None:
            return cls(rows, nameless=frauds)
        return cls(rows, Labels(frauds, np.ones(len(frauds), dtype=np.bool_)))

    @property
    def newest(self) -> int:
        """Newest event time, microseconds, the clock's included; far in the past if empty."""
        times = (self.rows.time, self.labels.frauds.time, self.nameless.time)
        clock = NEVER if self.clock is None else self.clock.at
        return max(clock, *(int(time.max()) for time in times if len(time)), NEVER)

    def to_bytes(self, fingerprint: int) -> bytes:
        """Encode a header, then the columns.

        Args:
          fingerprint: fingerprint of the id hash (`IdHash.fingerprint`).
        """
        rows, labels, nameless = self.rows, self.labels.frauds, self.nameless
        assert labels.transaction is not None
        columns: list[npt.NDArray[np.generic]] = [rows.key, rows.time, rows.amount]
        columns += [hashes for hashes in (rows.merchant, rows.of_currency) if hashes is not None]
        columns += [labels.key, labels.time, labels.visible, labels.transaction, self.labels.fraud]
        columns += [nameless.key, nameless.time, nameless.visible]
        sizes = (len(rows), len(labels), len(nameless))
        version = _KEYED if fingerprint else _UNKEYED
        if rows.of_currency is not None:
            version = _CURRENCIES
        marked = version if self.clock is None else version + _CLOCK
        header = _HEADER.pack(marked, rows.merchant is not None, *sizes)
        if version != _UNKEYED:
            header += _FINGERPRINT.pack(fingerprint)
        contents = [np.ascontiguousarray(column).data for column in columns]
        clock = b"" if self.clock is None else self.clock.words().tobytes()
        return b"".join((header, *contents, clock))

    @staticmethod
    def bytes_of_row(key: int, time: int, amount: int, fingerprint: int) -> bytes:
        """Return `to_bytes` of a delta of one row without merchant and currency.

        Args:
          key: hash of the key.
          time: event time, microseconds.
          amount: units of `fixed_point`.
          fingerprint: fingerprint of the id hash, not 0.
        """
        return _ONE_ROW.pack(_KEYED, False, 1, 0, 0, fingerprint, key, time, amount)

    @classmethod
    def from_bytes(cls, data: bytes, fingerprint: int) -> StateDelta:
        """Return the inverse of `to_bytes`.

        Raises:
          FraudError: the bytes are no delta, or have another id hash.
        """
        try:
            marked, merchants, rows, labels, nameless = _HEADER.unpack_from(data)
            version = marked & ~_CLOCK
            if version not in (_UNKEYED, _KEYED, _CURRENCIES):
                raise ValueError(f"version {marked}")
            start = _HEADER.size
            kept_under = 0
            if version != _UNKEYED:
                (kept_under,) = _FINGERPRINT.unpack_from(data, start)
                start += _FINGERPRINT.size
            if kept_under != fingerprint:
                raise other_hash("velocity windows")
            columns = _Columns(data, start)
            content = cls(
                KeyRows(
                    columns.hashes(rows),
                    columns.integers(rows),
                    columns.integers(rows),
                    columns.hashes(rows) if merchants else None,
                    columns.hashes(rows) if version == _CURRENCIES else None,
                ),
                _labels(columns, labels),
                Frauds(
                    columns.hashes(nameless), columns.integers(nameless), columns.integers(nameless)
                ),
                ClockState.of_words(columns.rest())[0] if marked & _CLOCK else None,
            )
        except (ValueError, struct.error) as error:
            raise FraudError(
                f"velocity state: not what this version keeps ({error}); start again with another "
                "--out and --history",
                Code.STATE_UNREADABLE,
            ) from None
        return content


def joined(deltas: Sequence[StateDelta]) -> StateDelta:
    """Concatenate several deltas; the clock is that after all of them."""
    some_rows = [delta.rows for delta in deltas if len(delta.rows)]
    with_merchants = [rows.merchant for rows in some_rows if rows.merchant is not None]
    of_currencies = [rows.of_currency for rows in some_rows if rows.of_currency is not None]
    rows = KeyRows(
        np.concatenate([_NO_HASHES, *(rows.key for rows in some_rows)]),
        np.concatenate([_NOTHING, *(rows.time for rows in some_rows)]),
        np.concatenate([_NOTHING, *(rows.amount for rows in some_rows)]),
        np.concatenate(with_merchants) if with_merchants else None,
        np.concatenate(of_currencies) if of_currencies else None,
    )
    labels = [delta.labels for delta in deltas]
    frauds = Frauds(
        np.concatenate([label.frauds.key for label in labels]),
        np.concatenate([label.frauds.time for label in labels]),
        np.concatenate([label.frauds.visible for label in labels]),
        None,
        np.concatenate([_ids(label.frauds) for label in labels]),
    )
    fraud = np.concatenate([label.fraud for label in labels])
    nameless = Frauds(
        np.concatenate([delta.nameless.key for delta in deltas]),
        np.concatenate([delta.nameless.time for delta in deltas]),
        np.concatenate([delta.nameless.visible for delta in deltas]),
    )
    return StateDelta(rows, Labels(frauds, fraud), nameless, _clock_after(deltas))


def _clock_after(deltas: Sequence[StateDelta]) -> ClockState | None:
    """Return the clock after all rows; None if none of them has it."""
    last = last_clock(deltas)
    if last is None:
        return None
    place, state = last
    clock = EventClock()
    clock.resume(state)
    for delta in deltas[place + 1 :]:
        clock.observe(delta.rows.time)
    return clock.state


def last_clock(deltas: Sequence[StateDelta]) -> tuple[int, ClockState] | None:
    """Return the last delta with a clock, and that clock; None if none has one."""
    for place in reversed(range(len(deltas))):
        clock = deltas[place].clock
        if clock is not None:
            return place, clock
    return None


def read_all(deltas: Sequence[bytes], fingerprint: int) -> list[StateDelta]:
    """Read deltas in order; consecutive ones of rows alone are read together, to one.

    Args:
      deltas: results of `StateDelta.to_bytes`.
      fingerprint: fingerprint of the id hash (`IdHash.fingerprint`).

    Raises:
      FraudError: the bytes are no delta, or have another id hash.
    """
    read = list[StateDelta]()
    for form, alike in groupby(deltas, _form_of_rows):
        several = list(alike)
        if form is None or len(several) == 1:
            read += [StateDelta.from_bytes(data, fingerprint) for data in several]
        else:
            # The check of the first covers all.
            first = StateDelta.from_bytes(several[0], fingerprint)
            read.append(StateDelta(_rows(several, *form[:2], first.rows)))
    return read


def _form_of_rows(data: bytes) -> tuple[int, int, bytes] | None:
    """Return what deltas of rows alone have in common; None for others.

    Returns:
      Place and number of the columns, and the header without the number of rows.
    """
    if len(data) < _HEADER.size:
        return None
    version, merchants, rows, labels, nameless = _HEADER.unpack_from(data)
    if version & _CLOCK:
        return None
    start = _HEADER.size + (0 if version == _UNKEYED else _FINGERPRINT.size)
    columns = 3 + merchants + (version == _CURRENCIES)
    if labels or nameless or rows < 1 or len(data) != start + 8 * columns * rows:
        return None
    return start, columns, data[:2] + data[_HEADER.size : start]


def joined_columns(deltas: Sequence[bytes], start: int, columns: int) -> list[Hashes]:
    """Return the columns of deltas, those of each after those of the one before.

    Args:
      deltas: each a header and columns of equal length, of 8 bytes a row.
      start: length of the header.
      columns: number of columns.

    Returns:
      uint64[n] for each column.
    """
    parts = list[list[bytes]]([] for _ in range(columns))
    for data in deltas:
        size = (len(data) - start) // columns
        for number, part in enumerate(parts):
            begin = start + number * size
            part.append(data[begin : begin + size])
    return [np.frombuffer(b"".join(part), np.uint64) for part in parts]


def _rows(deltas: Sequence[bytes], start: int, columns: int, first: KeyRows) -> KeyRows:
    """Return the rows of deltas of the form of the first one's."""
    words = iter(joined_columns(deltas, start, columns))
    key, time, amount = next(words), next(words), next(words)
    merchant = next(words) if first.merchant is not None else None
    of_currency = next(words) if first.of_currency is not None else None
    return KeyRows(key, time.view(np.int64), amount.view(np.int64), merchant, of_currency)


class _Columns:
    """Read columns from the bytes after the header."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._place = start

    def rest(self) -> npt.NDArray[np.int64]:
        return np.frombuffer(self._data, np.int64, offset=self._place)

    def integers(self, rows: int) -> npt.NDArray[np.int64]:
        return np.frombuffer(self._data, np.int64, rows, self._after(rows * 8))

    def hashes(self, rows: int) -> Hashes:
        return np.frombuffer(self._data, np.uint64, rows, self._after(rows * 8))

    def flags(self, rows: int) -> Mask:
        return np.frombuffer(self._data, np.bool_, rows, self._after(rows))

    def _after(self, size: int) -> int:
        """Return the start of the next column, of `size` bytes."""
        start = self._place
        self._place += size
        return start


def _labels(columns: _Columns, labels: int) -> Labels:
    key, time, visible = (
        columns.hashes(labels),
        columns.integers(labels),
        columns.integers(labels),
    )
    frauds = Frauds(key, time, visible, None, columns.hashes(labels))
    return Labels(frauds, columns.flags(labels))


def _ids(frauds: Frauds) -> Hashes:
    assert frauds.transaction is not None
    return frauds.transaction
