"""The shard of the velocity features of one key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.hashing import Hashes, IdHash
from beam_fraud.features.velocity.columns import keyed_rows, part_of, spread, with_columns
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows, Measures
from beam_fraud.features.velocity.state.state_delta import (
    Labels,
    StateDelta,
    joined,
    last_clock,
    read_all,
)
from beam_fraud.features.velocity.state.velocity_state import VelocityState
from beam_fraud.features.velocity.window_totals import Feature
from beam_fraud.schema.event_time import event_micros
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.raw import is_of_labels
from beam_fraud.state.shard import Delta, Effects

Mask = npt.NDArray[np.bool_]
#: Type: features by name, and the delta of the state.
Observed: TypeAlias = tuple[dict[str, Feature], Delta]
#: Type: read earlier transactions, rows of `Schema.transactions`.
History = Callable[[], Iterator[pa.RecordBatch]]


class VelocityShard:
    """Add the features of one key to transactions, and add labels to the state.

    Batches of labels (`stages.LABEL`) change the state and are emitted unchanged: the step of the
    next key needs them, too. A new shard reads the history before its first batch.
    """

    #: No row waits.
    waiting = False

    def __init__(
        self,
        shard: int,
        *,
        definitions: Sequence[Velocity],
        hashing: IdHash,
        lateness: int = 0,
        shards: int = 1,
        history: History | None = None,
        counted: Callable[[int], None] | None = None,
    ) -> None:
        """Start empty.

        Args:
          shard: number of the shard, from 0.
          definitions: definitions of one key.
          hashing: id hash of the stream.
          lateness: microseconds that a row may be late and still see all its windows.
          shards: number of shards.
          history: earlier transactions; the shard adds its own.
          counted: callback with the number of rows it added; each is in one shard of every key.
        """
        self._shard, self._shards = shard, shards
        self._definitions = tuple(definitions)
        self._key = self._definitions[0].key
        self._history, self._counted = history, counted
        self._hash = hashing
        self._state = VelocityState(self._definitions, lateness)
        #: Whether `observe_one` is there for these definitions.
        self.of_values = hashing.keyed and self._state.of_values
        #: Blocks of the clock that the deltas include.
        self._clocked = 0

    @property
    def needed_from(self) -> int:
        """Time before which no window starts."""
        return self._state.needed_from

    @property
    def rows(self) -> int:
        """Number of rows in memory."""
        return self._state.rows

    @property
    def definitions(self) -> tuple[Velocity, ...]:
        """The definitions."""
        return self._definitions

    def restore(self, stored: Sequence[bytes]) -> Effects:
        """Restore the state, or read the history if there is none."""
        self._add(read_all(stored, self._hash.fingerprint))
        if stored or self._history is None:
            return Effects()
        deltas = []
        for transactions in self._history():
            mine = self.mine(transactions)
            if self._counted is not None:
                self._counted(len(mine))
            deltas.append(self.fill(mine))
        return Effects(deltas=deltas)

    def fill(self, transactions: pa.RecordBatch, measures: Measures | None = None) -> Delta:
        """Add transactions of this shard without computing features; return the delta.

        Args:
          transactions: the transactions.
          measures: their times and amounts, if they are computed already.
        """
        keyed = keyed_rows(transactions, self._definitions, self._hash, measures)
        self._state.add(keyed.rows, keyed.frauds)
        return self._delta(StateDelta.of(keyed.rows, keyed.frauds))

    def mine(self, transactions: pa.RecordBatch) -> pa.RecordBatch:
        """Return the transactions of this shard."""
        if self._shards == 1:
            return transactions
        mine = part_of(transactions, self._key, self._shards, self._hash) == self._shard
        return transactions.filter(pa.array(mine))

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Return transactions with features as of arrival; or labels."""
        if is_of_labels(batch):
            return self._take_labels(batch)
        features, effects = self.observe(batch)
        return replace(effects, rows=[with_columns(batch, features)])

    def observe(
        self, batch: pa.RecordBatch, measures: Measures | None = None
    ) -> tuple[dict[str, Feature], Effects]:
        """Add n transactions; return their features by name, float64[n], and effects without rows.

        `take` appends the features as columns, which costs a few rows more than to compute them.

        Args:
          batch: the transactions.
          measures: their times and amounts, if they are computed already.
        """
        keyed = keyed_rows(batch, self._definitions, self._hash, measures)
        features = self._state.update(keyed.rows, keyed.frauds)
        delta = StateDelta.of(keyed.rows, keyed.frauds)
        deltas = [self._delta(delta)] if len(keyed.rows) else ()
        return spread(keyed, self._definitions, features), Effects(deltas=deltas)

    @property
    def key(self) -> tuple[str, ...]:
        """Columns of the key."""
        return self._key

    def observe_one(self, key: int, time: int, amount: int) -> tuple[dict[str, float], Delta]:
        """Add one transaction, which is no known fraud; return its features and the delta.

        Args:
          key: hash of its key (`IdHash.of_one_together`).
          time: its event time, microseconds.
          amount: units of `fixed_point`.
        """
        features = self._state.update_one(key, time, amount)
        if self._state.clock.completed != self._clocked or time < self.needed_from:
            units = np.array([time]), np.array([amount], dtype=np.int64)
            row = KeyRows(np.array([key], dtype=np.uint64), *units)
            return features, self._delta(StateDelta(row))
        data = StateDelta.bytes_of_row(key, time, amount, self._hash.fingerprint)
        return features, Delta(data, newest=time)

    def observe_rows(self, rows: KeyRows, ids: Hashes, fraud: Mask) -> Observed:
        """Add n > 0 rows of a state `of_values`; return their features, float64[n], and the delta.

        Args:
          rows: the rows.
          ids: uint64[n], hashes of their ids.
          fraud: bool[n]: which are known frauds from their own time on.
        """
        frauds = None
        if fraud.any() and any(spec.needs_labels for spec in self._definitions):
            places = np.flatnonzero(fraud)
            times = rows.time[places]
            frauds = Frauds(rows.key[places], times, times, places, ids[places])
        features = self._state.update(rows, frauds)
        return features, self._delta(StateDelta.of(rows, frauds))

    def settle(self) -> None:
        """Do what the next single row may have to do first; between two rows.

        Raises:
          FraudError: there are too many keys; the next row raises it, too.
        """
        self._state.settle()

    def peek(self, transaction: pa.RecordBatch) -> dict[str, Feature]:
        """Return the features that one transaction would have now, without adding it."""
        keyed = keyed_rows(transaction, self._definitions, self._hash)
        features = self._state.update(keyed.rows, keep=False)
        return spread(keyed, self._definitions, features)

    def tick(self, now: float) -> Effects:
        """Do nothing."""
        return Effects()

    def finish(self) -> Effects:
        """No row waits."""
        return Effects()

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Merge all rows and labels, without those that no window reaches."""
        delta, needed_from = joined(read_all(deltas, self._hash.fingerprint)), self.needed_from
        needed = replace(
            delta,
            rows=delta.rows.take(delta.rows.time >= needed_from),
            labels=delta.labels.take(delta.labels.frauds.time >= needed_from),
            nameless=delta.nameless.take(delta.nameless.time >= needed_from),
        )
        return needed.to_bytes(self._hash.fingerprint)

    def _add(self, deltas: Sequence[StateDelta]) -> None:
        """Add what was stored, in its order."""
        known, clock = 0, last_clock(deltas)
        if clock is not None:
            known = clock[0] + 1
            with self._state.resumed(clock[1]):
                self._add_rows(deltas[:known])
            self._clocked = self._state.clock.completed
        self._add_rows(deltas[known:])

    def _add_rows(self, deltas: Sequence[StateDelta]) -> None:
        for delta in deltas:
            self._state.add(delta.rows)
            self._state.label(delta.labels.frauds, delta.labels.fraud)
            self._state.label(delta.nameless)

    def _delta(self, delta: StateDelta) -> Delta:
        """Return a delta of the state, with the clock if it moved since the last one.

        Also with rows that no window reaches: they will be dropped, though the clock observed them.
        """
        clock, times = self._state.clock, delta.rows.time
        late = len(times) > 0 and int(times.min()) < self.needed_from
        if late or clock.completed != self._clocked:
            self._clocked = clock.completed
            delta = replace(delta, clock=clock.state)
        return Delta(delta.to_bytes(self._hash.fingerprint), delta.newest)

    def _take_labels(self, batch: pa.RecordBatch) -> Effects:
        labels = labels_of(batch, self._key, self._hash)
        if labels is None or not any(spec.needs_labels for spec in self._definitions):
            return Effects([batch])
        self._state.label(labels.frauds, labels.fraud)
        return Effects([batch], [self._delta(StateDelta(labels=labels))])


def labels_of(batch: pa.RecordBatch, key: Sequence[str], hashing: IdHash) -> Labels | None:
    """Return the labels of a key.

    Args:
      batch: labels, `stages.LABEL`.
      key: columns of the key.
      hashing: id hash of the stream.

    Returns:
      The labels of transactions with the key; None if labels lack its columns.
    """
    if not set(key) <= set(batch.schema.names):
        return None
    columns = [batch.column(name) for name in key]
    valid = pc.is_valid(columns[0])
    for column in columns[1:]:
        valid = pc.and_(valid, column.is_valid())
    batch = batch.filter(valid)
    keys = hashing.of_columns([batch.column(name) for name in key])
    visible = np.asarray(batch.column("labelled_at").cast(pa.int64()), dtype=np.int64)
    ids = hashing.of(batch.column("transaction_id"))
    fraud = np.asarray(batch.column("label"), dtype=np.int8) == 1
    return Labels(Frauds(keys, event_micros(batch), visible, None, ids), fraud)
