"""The answers to requests: a row for each transaction, a fault for each other record."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.records.envelopes import CORRECTION, TOMBSTONE
from beam_fraud.records.faults import REASONS, SETTINGS
from beam_fraud.records.text import together
from beam_fraud.records.validate import Arrived
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.schema.stages import SCORED
from beam_fraud.serve.predictions import Fault

Block = npt.NDArray[np.float64]

#: An answered transaction.
ANSWERED = SCORED.append(pa.field("features_as_of", EVENT_TIME, nullable=False)).append(
    # Why the answer lacks something or is the default; null for a normal one.
    pa.field("degraded", pa.string())
)
_EPOCH = datetime(1970, 1, 1)  # its text has no offset
#: Members of an answer that `answers_json` converts column by column.
_PLAIN = ("transaction_id", "score", "decision", "flagged", "model_id")
#: Answers from which most are encoded together.
_MANY = 64
#: Columns of an answer in an Arrow body, and those of a fault.
_FAULT = (
    pa.field("error_code", pa.string()),
    pa.field("error_field", pa.string()),
    pa.field("error_detail", pa.string()),
)


#: Fault of a record whose answer is no longer there.
_LOST = Fault("duplicate", None, "answered before, and the archive no longer holds the answer")


class _Answer(msgspec.Struct, omit_defaults=True, gc=False):
    """An answer as JSON; its members in their order."""

    transaction_id: str
    score: float | None
    decision: str
    flagged: bool
    rules: list[str]
    reasons: list[dict[str, Any]]
    model_id: str
    features_as_of: str
    degraded: str | msgspec.UnsetType = msgspec.UNSET
    features: dict[str, float | None] | msgspec.UnsetType = msgspec.UNSET


class _Head(msgspec.Struct, gc=False):
    """The first members of an `_Answer`."""

    transaction_id: str
    score: float


_ENCODER = msgspec.json.Encoder()
_ID, _SCORE, _FLAGGED, _DECISION, _RULES, _REASONS, _MODEL, _AS_OF, _DEGRADED = map(
    ANSWERED.names.index,
    (
        *("transaction_id", "score", "flagged", "decision", "rules", "reasons"),
        *("model_id", "features_as_of", "degraded"),
    ),
)


class AnsweredRows:
    """Answered transactions as values, which become columns when they are needed.

    Columns of one row take longer than its answer.
    """

    def __init__(self, values: list[list[Any]]) -> None:
        """Keep rows, each with its values in the order of `ANSWERED`: times in microseconds."""
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def batch(self) -> pa.RecordBatch:
        """The rows of `ANSWERED`."""
        columns = list(zip(*self.values, strict=True)) or [()] * len(ANSWERED)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, ANSWERED, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=ANSWERED)

    def json(self) -> list[bytes]:
        """Return what `answers_json` does."""
        return [
            _ENCODER.encode(
                _Answer(
                    values[_ID],
                    values[_SCORE],
                    values[_DECISION],
                    values[_FLAGGED],
                    values[_RULES] or [],
                    values[_REASONS] or [],
                    values[_MODEL],
                    _iso_of(values[_AS_OF]),
                    msgspec.UNSET if values[_DEGRADED] is None else values[_DEGRADED],
                )
            )
            for values in self.values
        ]


#: Type: rows of `ANSWERED`, as columns or as values.
Rows: TypeAlias = pa.RecordBatch | AnsweredRows


def batch_of(*parts: Rows) -> pa.RecordBatch:
    """Return all rows of some parts as columns."""
    batches = list[pa.RecordBatch]()
    for of_values, alike in groupby(parts, lambda part: isinstance(part, AnsweredRows)):
        if of_values:
            several = list(alike)
            joined = AnsweredRows([row for part in several for row in part.values])
            batches.append(several[0].batch if len(several) == 1 else joined.batch)
        else:
            batches += alike
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def ids_of(rows: Rows) -> list[str]:
    """Return the ids of answered transactions."""
    if isinstance(rows, AnsweredRows):
        return [values[_ID] for values in rows.values]
    ids: list[str] = rows.column("transaction_id").to_pylist()
    return ids


def decisions_of(rows: Rows) -> Counter[str]:
    """Return the number of rows with each decision."""
    if isinstance(rows, AnsweredRows):
        return Counter(values[_DECISION] for values in rows.values)
    counted = rows.column("decision").value_counts()
    return Counter({one["values"]: one["counts"] for one in counted.to_pylist()})


@dataclass(frozen=True)
class Features:
    """The model's input of some answers."""

    #: Names of the columns of the block.
    names: tuple[str, ...]
    #: float64[n, features].
    block: Block

    def take(self, rows: Sequence[int]) -> Features:
        """Return the features of some rows."""
        return Features(self.names, self.block[list(rows)])

    def dicts(self) -> list[dict[str, float | None]]:
        """Return name to value for each row; null where a value is absent."""
        rows = ([v if math.isfinite(v) else None for v in row] for row in self.block.tolist())
        return [dict(zip(self.names, row, strict=True)) for row in rows]


@dataclass(frozen=True)
class Answered:
    """The answers to n records, in their order."""

    #: m rows of `ANSWERED`.
    given: Rows
    #: int64[m]: which record a row answers.
    places: npt.NDArray[np.int64]
    #: Record to its fault.
    faults: Mapping[int, Fault]
    #: Number of records, m and the faults.
    records: int
    #: The model's input of the rows, where it was asked for.
    features: Features | None = None
    #: The rows as JSON, where they were encoded together with others.
    encoded: Sequence[bytes] | None = field(default=None, repr=False)

    @property
    def rows(self) -> pa.RecordBatch:
        """The rows as columns."""
        return batch_of(self.given)

    @property
    def degraded(self) -> list[str]:
        """The reasons of degraded rows."""
        if isinstance(self.given, AnsweredRows):
            reasons = [values[_DEGRADED] for values in self.given.values]
        elif self.given.column("degraded").null_count == len(self.given):
            return []
        else:
            reasons = self.given.column("degraded").to_pylist()
        return [reason for reason in reasons if reason is not None]

    def with_encoded(self) -> Answered:
        """Return the answers, encoded for all calls of a group together."""
        if isinstance(self.given, AnsweredRows):
            return replace(self, encoded=self.given.json())
        return replace(self, encoded=answers_json(self.given))

    @property
    def errors(self) -> int:
        """Number of records that are no transactions."""
        return len(self.faults)

    def problem(self) -> Fault:
        """Return the first fault."""
        return self.faults[min(self.faults)]

    def json(self, *, array: bool) -> bytes:
        """Return the body: the answer to the only record, or an array."""
        if not array:
            return self._members()[0]
        if self.encoded is None and self.features is None and not self.faults:
            return _array_json(self.rows)
        return b"[" + b",".join(self._members()) + b"]"

    def ipc(self) -> bytes:
        """Return an Arrow IPC stream of n rows: `ANSWERED`, null for faults, and the faults."""
        row = np.full(self.records, -1, dtype=np.int64)
        row[self.places] = np.arange(len(self.places))
        order = pa.array(row, mask=row < 0)
        columns = {name: self.rows.column(name).take(order) for name in ANSWERED.names}
        fields = [f.with_nullable(True) for f in ANSWERED]
        if self.features is not None:
            for place, name in enumerate(self.features.names):
                fields.append(pa.field(f"feature_{name}", pa.float64()))
                values = pa.array(self.features.block[:, place])
                columns[f"feature_{name}"] = values.take(order)
        faults = [self.faults.get(record) for record in range(self.records)]
        for column, name in zip(_FAULT, ("code", "field", "detail"), strict=True):
            texts = [None if fault is None else getattr(fault, name) for fault in faults]
            columns[column.name] = pa.array(texts, pa.string())
        schema = pa.schema([*fields, *_FAULT])
        batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())

    def part(self, start: int, stop: int) -> Answered:
        """Return the answers to the records of a range."""
        first, last = np.searchsorted(self.places, (start, stop)).tolist()
        given = self.given
        return Answered(
            AnsweredRows(given.values[first:last])
            if isinstance(given, AnsweredRows)
            else given.slice(first, last - first),
            self.places[first:last] - start,
            {at - start: fault for at, fault in self.faults.items() if start <= at < stop}
            if self.faults
            else {},
            stop - start,
            None if self.features is None else self.features.take(range(first, last)),
            None if self.encoded is None else self.encoded[first:last],
        )

    def with_archived(self, archived: Mapping[int, str], found: pa.Table) -> Answered:
        """Add answers that were in the archive alone.

        Args:
          archived: record to the id of its transaction.
          found: rows of `ANSWERED` of such transactions.
        """
        row_of = {name: row for row, name in enumerate(found.column("transaction_id").to_pylist())}
        faults, places, rows = dict[int, Fault](), list[int](), list[int]()
        for place, name in archived.items():
            if name in row_of:
                places.append(place)
                rows.append(row_of[name])
            else:
                faults[place] = _LOST
        added = found.take(pa.array(rows, pa.int64())).combine_chunks().to_batches()
        features = self.features
        if features is not None:
            # The model's input of an earlier answer is not kept.
            absent = np.full((len(rows), features.block.shape[1]), np.nan)
            features = Features(features.names, absent)
        batch = added[0] if added else self.rows.slice(0, 0)
        return self.joined(
            Answered(batch, np.array(places, dtype=np.int64), faults, self.records, features)
        )

    def at(self, numbers: npt.NDArray[np.int64], records: int) -> Answered:
        """Return the answers as those of some of more records.

        Args:
          numbers: int64[n], ascending: the number of each record among all.
          records: number of all.
        """
        faults = {int(numbers[record]): fault for record, fault in self.faults.items()}
        return replace(self, places=numbers[self.places], faults=faults, records=records)

    def joined(self, other: Answered) -> Answered:
        """Return these answers and those to others of the same records."""
        places = np.concatenate((self.places, other.places))
        order = np.argsort(places, kind="stable")
        features = self.features
        if features is not None and other.features is not None:
            block = np.concatenate((features.block, other.features.block))
            features = Features(features.names, block[order])
        rows = pa.concat_batches([self.rows, other.rows]).take(pa.array(order))
        return Answered(
            rows, places[order], {**self.faults, **other.faults}, self.records, features
        )

    def _members(self) -> list[bytes]:
        encoded = self.encoded
        if encoded is None or self.features is not None:
            encoded = answers_json(self.rows, self.features)
        if not self.faults:
            return list(encoded)
        members = [b""] * self.records
        for place, member in zip(self.places.tolist(), encoded, strict=True):
            members[place] = member
        for place, fault in self.faults.items():
            members[place] = _ENCODER.encode({"error": fault})
        return members


def answers_json(rows: pa.RecordBatch, features: Features | None = None) -> list[bytes]:
    """Encode answers as JSON objects.

    Times have the form `2024-05-01T12:00:00.000005Z`; numbers read back exactly; `rules` and
    `reasons` are lists, empty for null; `degraded` and `features` are there only where they say
    something.

    Args:
      rows: n rows of `ANSWERED`.
      features: the model's input of the rows, or None.
    """
    encoded = None if features is not None else _together(rows)
    if encoded is None:
        return _one_by_one(rows, features)
    answers = [head + encoded.tail for head in encoded.heads]
    for row, other in encoded.others.items():
        answers[row] = other
    return answers


def _array_json(rows: pa.RecordBatch) -> bytes:
    """Return the array of `answers_json`."""
    encoded = _together(rows)
    if encoded is None:
        return b"[" + b",".join(_one_by_one(rows)) + b"]"
    heads, tail, others = encoded
    # Between two that differ, answers are joined by what follows each.
    pieces, start = list[bytes](), 0
    for row in (*others, len(heads)):
        if start < row:
            pieces.append((tail + b",").join(heads[start:row]) + tail)
        if row in others:
            pieces.append(others[row])
        start = row + 1
    return b"[" + b",".join(pieces) + b"]"


class _Together(NamedTuple):
    """Many answers as JSON."""

    #: Start of each object: id and score.
    heads: list[bytes]
    #: What follows each of them.
    tail: bytes
    #: The answers, by row and whole, that have more to say.
    others: dict[int, bytes]


def _together(rows: pa.RecordBatch) -> _Together | None:
    """Encode n rows of `ANSWERED`; None if they are few, or most have more to say."""
    if len(rows) < _MANY:
        return None
    alike = _alike(rows)
    unlike = np.flatnonzero(~alike)
    if len(unlike) > len(rows) // 2:
        return None
    heads = list(
        map(_Head, rows.column("transaction_id").to_pylist(), rows.column("score").to_pylist())
    )
    usual = int(alike.argmax())
    (whole,) = _one_by_one(rows.slice(usual, 1))
    tail = whole.removeprefix(_ENCODER.encode(heads[usual])[:-1])
    others = _one_by_one(rows.take(pa.array(unlike))) if len(unlike) else []
    # A line ends where only an object does.
    lines = _ENCODER.encode_lines(heads).split(b"}\n")[:-1]
    return _Together(lines, tail, dict(zip(unlike.tolist(), others, strict=True)))


def _alike(rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Return which answers approve and say no more, as most do; they differ in id and score alone.

    Args:
      rows: n > 0 rows of `ANSWERED`.

    Returns:
      bool[n].
    """
    alike = ~np.asarray(rows.column("flagged").to_numpy(zero_copy_only=False), dtype=bool)
    for name in ("rules", "reasons"):
        column = rows.column(name)
        if len(column.flatten()):
            lengths = pc.list_value_length(column).fill_null(0)
            alike &= np.asarray(lengths) == 0
    if rows.column("degraded").null_count < len(rows):
        alike &= np.asarray(rows.column("degraded").is_null())
    moments = np.asarray(rows.column("features_as_of").view(pa.int64()))
    alike &= moments == moments[-1]
    models = rows.column("model_id")
    if together(models) != together(models[:1]) * len(rows):
        alike &= np.asarray(pc.equal(models, models[-1]))
    return alike


def _one_by_one(rows: pa.RecordBatch, features: Features | None = None) -> list[bytes]:
    values = {name: rows.column(name).to_pylist() for name in _PLAIN}
    # An answer by default has no score.
    scores = [None if math.isnan(score) else score for score in values["score"]]
    degraded = rows.column("degraded")
    marks: Iterable[str | msgspec.UnsetType]
    if degraded.null_count == len(rows):
        marks = [msgspec.UNSET] * len(rows)
    else:
        marks = [msgspec.UNSET if mark is None else mark for mark in degraded.to_pylist()]
    inputs: Iterable[dict[str, float | None] | msgspec.UnsetType]
    inputs = [msgspec.UNSET] * len(rows) if features is None else features.dicts()
    answers = map(
        _Answer,
        values["transaction_id"],
        scores,
        values["decision"],
        values["flagged"],
        _lists(rows.column("rules")),
        _lists(rows.column("reasons")),
        values["model_id"],
        _iso(rows.column("features_as_of")),
        marks,
        inputs,
    )
    return [_ENCODER.encode(answer) for answer in answers]


def _lists(column: pa.Array) -> list[list[Any]]:
    lists: list[list[Any]] = [[]] * len(column)
    if column.null_count == len(column) or not len(column.flatten()):
        return lists
    lengths = pc.list_value_length(column).fill_null(0)
    for row in pc.indices_nonzero(lengths).to_pylist():
        lists[row] = column[row].as_py()
    return lists


def _iso_of(time: int) -> str:
    return f"{(_EPOCH + timedelta(microseconds=time)).isoformat(timespec='microseconds')}Z"


def _iso(times: pa.Array) -> list[str]:
    moments = np.asarray(times.view(pa.int64())).view("datetime64[us]")
    return [f"{moment}Z" for moment in moments.astype(str)]


def fault_of(reason: str, detail: str | None) -> Fault:
    """Return the fault of a dead letter.

    Example:
      >>> fault_of("missing_amount", "TX_AMOUNT: no amount")
      Fault(code='missing_amount', field='TX_AMOUNT', detail='no amount')
    """
    text, field_name = detail or reason, None
    meaning = REASONS.get(reason)
    if meaning is not None and text.endswith(f": {meaning}"):
        field_name, text = text.removesuffix(f": {meaning}"), meaning
    elif ": " in text and reason == "wrong_type":
        field_name, text = text.split(": ", 1)
    if reason in SETTINGS:
        text = f"{text}; in the schema, {SETTINGS[reason]}"
    return Fault(reason, field_name, text)


#: Faults of records that are no transactions and no dead letters.
_SKIPPED = {
    TOMBSTONE: Fault(TOMBSTONE, None, "a deletion, not a transaction"),
    CORRECTION: Fault(CORRECTION, None, "a change of an earlier transaction, which is not scored"),
}


def faults_of(base: int, checked: Arrived) -> dict[int, Fault]:
    """Return the fault of each record that is no transaction, by its number.

    Args:
      base: position of the first record.
      checked: the records.
    """
    if not checked.faulty.any():
        return {}
    faults = dict.fromkeys(np.flatnonzero(checked.faulty).tolist(), _SKIPPED[TOMBSTONE])
    if checked.skipped[CORRECTION]:
        # Which of the skipped records were corrections is in neither batch.
        faults = dict.fromkeys(faults, _SKIPPED[CORRECTION])
    dead = checked.dead
    for place, reason, detail in zip(
        (np.asarray(dead.column("position")) - base).tolist(),
        dead.column("reason").to_pylist(),
        dead.column("detail").to_pylist(),
        strict=True,
    ):
        faults[place] = fault_of(reason, detail)
    return faults
