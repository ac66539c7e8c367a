"""The answers to requests: a row for each transaction, a fault for each other record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.records.envelopes import CORRECTION, TOMBSTONE
from beam_fraud.records.faults import REASONS, SETTINGS
from beam_fraud.records.validate import Arrived
from beam_fraud.serve.answered_rows import (
    ANSWERED,
    AnsweredRows,
    Features,
    JointJson,
    Rows,
    answers_json,
    batch_of,
    degraded_of,
)
from beam_fraud.serve.predictions import Fault

_ENCODER = msgspec.json.Encoder()
#: Columns of an answer in an Arrow body, and those of a fault.
_FAULT = (
    pa.field("error_code", pa.string()),
    pa.field("error_field", pa.string()),
    pa.field("error_detail", pa.string()),
)


#: Fault of a record whose answer is no longer there.
_LOST = Fault("duplicate", None, "answered before, and the archive no longer holds the answer")


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
    #: What encodes them together with others at first use, and the place of the first one there.
    joint: tuple[JointJson, int] | None = field(default=None, repr=False)

    @property
    def rows(self) -> pa.RecordBatch:
        """The rows as columns."""
        return batch_of(self.given)

    @property
    def degraded(self) -> list[str]:
        """The reasons of degraded rows."""
        return degraded_of(self.given)

    def with_encoded(self) -> Answered:
        """Return the answers, encoded for all calls of a group together."""
        of_values = isinstance(self.given, AnsweredRows)
        encoded = self.given.json() if of_values else answers_json(self.given)
        # `replace` takes longer than the answer to one record.
        return Answered(
            self.given, self.places, self.faults, self.records, self.features, encoded, self.joint
        )

    def with_joint(self) -> Answered:
        """Return the answers, to be encoded for all calls of a group at the first of them."""
        return replace(self, joint=(JointJson(self.given), 0))

    def without_features(self) -> Answered:
        """Return the answers to a call that did not ask for the model's input."""
        return self if self.features is None else replace(self, features=None)

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
            joint, first = self.joint or (JointJson(self.given), 0)
            return joint.array(first, first + len(self.given))
        return b"[" + b",".join(self._members()) + b"]"

    def ipc(self) -> bytes:
        """Return an Arrow IPC stream of n rows: `ANSWERED`, null for faults, and the faults."""
        columns = list(self.rows.columns)
        fields = [f.with_nullable(True) for f in ANSWERED]
        if self.features is not None:
            for place, name in enumerate(self.features.names):
                fields.append(pa.field(f"feature_{name}", pa.float64()))
                columns.append(pa.array(self.features.block[:, place]))
        if self.faults:
            row = np.full(self.records, -1, dtype=np.int64)
            row[self.places] = np.arange(len(self.places))
            order = pa.array(row, mask=row < 0)
            columns = [column.take(order) for column in columns]
            faults = [self.faults.get(record) for record in range(self.records)]
            for name in ("code", "field", "detail"):
                texts = [None if fault is None else getattr(fault, name) for fault in faults]
                columns.append(pa.array(texts, pa.string()))
        else:
            columns += [pa.nulls(self.records, column.type) for column in _FAULT]
        schema = pa.schema([*fields, *_FAULT])
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
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
            None if self.joint is None else (self.joint[0], self.joint[1] + first),
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
