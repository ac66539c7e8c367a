"""The windows and ids in the state of a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.hashing import IdHash
from beam_fraud.features.matrix import FeatureSet, Values
from beam_fraud.features.velocity.columns import by_key
from beam_fraud.features.velocity.definition_sets import covers, is_further, sources
from beam_fraud.features.velocity.fixed_point import to_units, unit_of
from beam_fraud.features.velocity.key_rows import Measures
from beam_fraud.features.velocity.window_totals import Feature
from beam_fraud.monitoring.counters import HISTORY_ROWS, ROWS_DUPLICATE, Count
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.velocity import Velocity
from beam_fraud.serve.key_hashes import KeyHashes, ManyKeyHashes
from beam_fraud.serve.side_by_side import SideBySide
from beam_fraud.state.deduplicate import DeduplicateShard
from beam_fraud.state.local_shards import LocalShards, MakeShard
from beam_fraud.state.shard import Effects
from beam_fraud.state.velocity import History, VelocityShard
from beam_fraud.state.window_sets import Filling, Wanted, WindowSetsShard
from beam_fraud.storage.journal import JournaledCheckpoint

#: Step of the ids.
_IDS = "deduplicate"
#: Seconds that `ServerWindows.read_earlier` may take.
_READING_SECONDS = 0.02
#: Transactions from which arrays are faster than values.
_TOGETHER = 6

#: A feature of one transaction, or of several.
Number = TypeVar("Number", float, Feature)


@dataclass(frozen=True)
class WindowSettings:
    """Settings of a server's windows and ids."""

    #: The features of the model at the start, and the schema.
    features: FeatureSet
    #: Velocity definitions that the state was made for, if they are not those of the features.
    first: tuple[Velocity, ...] | None = None
    #: Reads earlier transactions, which fill the windows of a new state; None without any.
    history: History | None = None
    #: How the windows of another model are filled; None if no other model may come.
    filling: Filling | None = None
    #: Microseconds of event time for which ids are remembered.
    dedupe_horizon: int = DAY
    #: Microseconds that a transaction may be late and still see all its windows.
    lateness: int = 0


class ServerWindows:
    """The windows and ids of the transactions that a server answered or follows.

    Used by the thread that works with the engine, because even a look at the windows may restore
    them (`ServerState`). What changes is part of the next commit of the checkpoint.

    Args:
      settings: the settings.
      checkpoint: the state.
      hashing: the hash of ids and keys.
      count: adds to a counter.

    Raises:
      FraudError: the state or the history cannot be read.
    """

    def __init__(
        self,
        settings: WindowSettings,
        checkpoint: JournaledCheckpoint,
        hashing: IdHash,
        count: Count,
    ) -> None:
        self._settings = settings
        self._checkpoint = checkpoint
        self._hashing = hashing
        self._side_by_side = SideBySide()
        #: Velocity definitions of the state, and of the engine.
        self._first = settings.features.velocity if settings.first is None else settings.first
        self.velocity = settings.features.velocity
        #: Whether features of the engine's model are by their names among those of the state.
        self._plain = covers(self._first, self.velocity)
        #: What models need, the present one first; None before that is known.
        self.wanted: Wanted | None = None
        #: Id of the model that waits for its windows, or None; read by any thread.
        self.awaited: str | None = None
        #: The ids; None for transactions without any.
        self._ids: LocalShards | None = None
        if settings.features.schema.role("transaction_id"):
            horizon, counted = settings.dedupe_horizon, partial(count, ROWS_DUPLICATE)
            self._ids = self._restored(_IDS, lambda _: DeduplicateShard(horizon, counted, hashing))
        #: The windows of each key.
        self._velocity = [
            self._restored(step, make) for step, make in self._makers(partial(count, HISTORY_ROWS))
        ]

    def deduplicated(self, transactions: pa.RecordBatch) -> pa.RecordBatch:
        """Return the transactions whose id is new, and remember it."""
        if self._ids is None:
            return transactions
        rows = self._ids.take(0, transactions)
        if len(rows) == 1:
            return rows[0]
        return pa.concat_batches(rows) if rows else transactions.slice(0, 0)

    def known(self, transactions: pa.RecordBatch) -> list[bool]:
        """Return which transactions have an id that was answered."""
        if self._ids is None:
            return [False] * len(transactions)
        return list(_ids_of(self._ids).known(transactions).tolist())

    def observe(self, transactions: pa.RecordBatch) -> dict[str, Feature]:
        """Add n transactions to the windows; return their velocity features, float64[n] each."""
        features = dict[str, Feature]()
        if not self._velocity:
            return features
        measures = Measures.of(transactions)
        steps = [(shards, _sets_of(shards)) for shards in self._velocity]
        renewed = [sets.renew(measures.times) for _, sets in steps]
        observed = self._side_by_side.map(
            lambda sets: sets.observe(transactions, measures),
            [sets for _, sets in steps],
            len(transactions),
        )
        for (shards, _), changed, (computed, deltas) in zip(steps, renewed, observed, strict=True):
            shards.keep(0, Effects(deltas=[*changed, *deltas]))
            features |= computed
        return self._named(features)

    @property
    def of_values(self) -> bool:
        """Return whether `take_new` is there for the schema and its windows."""
        return (
            self._ids is not None
            and self._hashing.keyed
            and all(_sets_of(shards).of_values for shards in self._velocity)
        )

    def take_new(self, rows: Sequence[Values]) -> list[dict[str, float]] | None:
        """Take new transactions that are values into windows that are `of_values`.

        Args:
          rows: n transactions, by the columns of `Schema.transactions`, without nulls in keys.

        Returns:
          Their velocity features; None, with no change of the state, if one of the ids is known or
          two are equal.
        """
        if len(rows) >= _TOGETHER or any(row.get("label") == 1 for row in rows):
            return self._take_together(rows)
        ids, seen, velocity = self._shards_of_values()
        columns = {name: None for _, sets in velocity for name in sets.key_columns}
        hashes = [KeyHashes(self._hashing, row, columns) for row in rows]
        found = {of_row.id for of_row in hashes}
        if any(map(seen.has, found)) or len(found) < len(hashes):
            return None
        computed: list[dict[str, float]] = []
        for row, of_row in zip(rows, hashes, strict=True):
            time, amount = row["event_time"], unit_of(row["amount"])
            ids.keep(0, Effects(deltas=[seen.take_new(time, of_row.id)]))
            features: dict[str, float] = {}
            for shards, sets in velocity:
                changed = sets.renew_by_one(time)
                own, deltas = sets.observe_values(time, amount, of_row)
                shards.keep(0, Effects(deltas=[*changed, *deltas]))
                features |= own
            computed.append(self._named(features))
        return computed

    def _shards_of_values(
        self,
    ) -> tuple[LocalShards, DeduplicateShard, list[tuple[LocalShards, WindowSetsShard]]]:
        """Return the ids and their shard, and the windows of each key and their shard."""
        ids = self._ids
        assert ids is not None
        return ids, _ids_of(ids), [(shards, _sets_of(shards)) for shards in self._velocity]

    def _take_together(self, rows: Sequence[Values]) -> list[dict[str, float]] | None:
        """Do the same, by arrays."""
        ids, seen, velocity = self._shards_of_values()
        columns = {name: None for _, sets in velocity for name in sets.key_columns}
        key_hashes = ManyKeyHashes(self._hashing, rows, columns)
        words = key_hashes.ids
        pairs = list(zip(*words.tolist(), strict=True))
        if any(map(seen.has, pairs)) or len(set(pairs)) < len(pairs):
            return None
        times = np.array([row["event_time"] for row in rows], dtype=np.int64)
        fraud = np.array([row.get("label") == 1 for row in rows])
        measures = Measures(times, to_units(np.array([row["amount"] for row in rows])))
        ids.keep(0, Effects(deltas=[seen.take_all_new(times, words)]))
        features = dict[str, Feature]()
        for shards, sets in velocity:
            changed = sets.renew(times)
            own, deltas = sets.observe_rows(measures, key_hashes, words[0], fraud)
            shards.keep(0, Effects(deltas=[*changed, *deltas]))
            features |= own
        named = self._named(features)
        if not named:
            return [{} for _ in rows]
        of_rows = zip(*(feature.tolist() for feature in named.values()), strict=True)
        return [dict(zip(named, values, strict=True)) for values in of_rows]

    def peek(self, transaction: pa.RecordBatch) -> dict[str, Feature]:
        """Return the velocity features of one transaction, without changing the windows."""
        features = dict[str, Feature]()
        for shards in self._velocity:
            features |= _sets_of(shards).peek(transaction)
        return self._named(features)

    def _named(self, features: dict[str, Number]) -> dict[str, Number]:
        """Return features by column with those of the engine's model by name, if they are others.

        Raises:
          FraudError: its windows are not there.
        """
        if self._plain and (
            all(_sets_of(shards).only_first for shards in self._velocity)
            or not any(map(is_further, features))
        ):
            return features
        found = sources(features, self.velocity, self._first)
        if found is None:
            raise FraudError(
                "the state holds none of the model's windows; start the server again with "
                "another --state and --history",
                Code.STREAM_CHANGED,
            )
        own = {name: value for name, value in features.items() if not is_further(name)}
        return own | {name: features[column] for name, column in found.items()}

    def label(self, labels: pa.RecordBatch) -> None:
        """Add labels to the windows."""
        for shards in self._velocity:
            shards.take(0, labels)

    def settle(self) -> None:
        """Do what the next row may have to do first, between two groups.

        Raises:
          FraudError: there are too many keys; the next row raises it, too.
        """
        for shards in self._velocity:
            _sets_of(shards).settle()

    def standing(self, velocity: Iterable[Velocity]) -> bool | None:
        """Return whether the windows of a model are full; None if some have not begun."""
        standing = list[bool | None]()
        for definitions in by_key(velocity).values():
            of_steps = [_sets_of(shards).standing(definitions) for shards in self._velocity]
            standing.append(next((one for one in of_steps if one is not None), None))
        return None if None in standing else all(standing)

    def decide_by(self, velocity: tuple[Velocity, ...]) -> None:
        """Return the features of another model from the next rows on.

        Args:
          velocity: its definitions, whose windows are full.
        """
        self.velocity, self.wanted, self.awaited = velocity, (velocity,), None
        self._plain = covers(self._first, velocity)

    def read_earlier(self) -> None:
        """Read earlier transactions for the windows of another model, for a short time."""
        until = time.monotonic() + _READING_SECONDS
        for shards in self._velocity:
            sets = _sets_of(shards)
            while sets.reads and time.monotonic() < until:
                deltas = sets.read()
                if not deltas:
                    break
                shards.keep(0, Effects(deltas=deltas))

    def discarded(self) -> None:
        """Note that the state is that of the last commit."""
        for shards in self._velocity if self._ids is None else (self._ids, *self._velocity):
            # One that failed may have changed without a word to the checkpoint.
            shards.forget()

    def close(self) -> None:
        """End the threads that compute the windows of large groups."""
        self._side_by_side.close()

    def _makers(self, count_history: Callable[[int], None]) -> Iterator[tuple[str, MakeShard]]:
        """Yield the step of the windows of each key, and what creates its shard."""
        settings = self._settings
        keys = by_key(self._first)
        if not keys and settings.filling is not None:
            # A later model may have windows.
            keys = {(): ()}
        windows = partial(VelocityShard, 0, hashing=self._hashing, lateness=settings.lateness)
        filling = replace(settings.filling or Filling(), wanted=lambda: self.wanted)
        for number, (key, definitions) in enumerate(keys.items()):
            step = f"velocity of {' and '.join(key)}" if key else "velocity"
            of_start = partial(
                windows,
                history=settings.history,
                counted=count_history if number == 0 else None,
            )
            last = number == len(keys) - 1
            yield (
                step,
                partial(
                    WindowSetsShard,
                    first=definitions,
                    make=partial(_made, of_start),
                    further=partial(_made, windows),
                    filling=replace(
                        filling, elsewhere=frozenset(keys) if last and settings.filling else None
                    ),
                ),
            )

    def _restored(self, step: str, make: MakeShard) -> LocalShards:
        """Return the only shard of a step, restored."""
        shards = LocalShards(make, step, self._checkpoint)
        shards.shard(0)
        self._checkpoint.open[step, 0] = partial(shards.shard, 0)
        return shards


def _ids_of(shards: LocalShards) -> DeduplicateShard:
    shard = shards.shard(0)
    assert isinstance(shard, DeduplicateShard)
    return shard


def _sets_of(shards: LocalShards) -> WindowSetsShard:
    shard = shards.shard(0)
    assert isinstance(shard, WindowSetsShard)
    return shard


def _made(windows: partial[VelocityShard], definitions: tuple[Velocity, ...]) -> VelocityShard:
    return windows(definitions=definitions)
