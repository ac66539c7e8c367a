"""The shard of the velocity features of several sets of definitions, which come and go.

A model with other definitions gets a set of its own: it is filled from earlier transactions and
with every row, and emits no features before its windows are full. A set that no model needs any
more goes on for as long as its longest window, because a rollback may need it, and is then dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.columns import by_key, with_columns
from beam_fraud.features.velocity.definition_sets import covers, further_columns
from beam_fraud.features.velocity.key_rows import KeyRows, Measures, Times
from beam_fraud.features.velocity.reach import look_back, spoken
from beam_fraud.features.velocity.window_totals import Feature
from beam_fraud.schema.event_time import event_micros, moment_of
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.raw import is_of_labels
from beam_fraud.state.set_notes import FIRST, SetNote, divided, section
from beam_fraud.state.shard import Delta, Effects
from beam_fraud.state.velocity import Mask, VelocityShard

_LOG = logging.getLogger(__name__)
#: What may lie between earlier transactions and the first row: a share of the longest window, or
#: so many times the mean time between two earlier rows.
_GAP, _GAP_ROWS = 0.01, 3

#: Type: definitions of each model that decides or waits for its windows; None: not known yet.
Wanted = tuple[tuple[Velocity, ...], ...]
#: Type: read earlier transactions; None where some follow that are not read yet.
Earlier = Callable[[], Iterator[pa.RecordBatch | None]]
#: Type: create the windows of definitions of one key.
MakeWindows = Callable[[tuple[Velocity, ...]], VelocityShard]


@dataclass(frozen=True)
class Filling:
    """How further sets of a step are filled."""

    #: Returns what models need; the same object as long as that does not change.
    wanted: Callable[[], Wanted | None] = lambda: None
    #: Reads earlier transactions again, or None.
    history: Earlier | None = None
    #: Microseconds of event time after which a set is used though its windows are not full; None
    #: to wait until they are.
    warm_up: int | None = None
    #: Microseconds that a row may be late and still see all its windows.
    lateness: int = 0
    #: Keys of other steps; None if this step takes its own key alone.
    elsewhere: frozenset[tuple[str, ...]] | None = None
    #: Whether the set of the start stays though no model needs it.
    keeps_first: bool = False


@dataclass(frozen=True)
class _Span:
    """Oldest and newest event time of earlier transactions, microseconds, and their number."""

    oldest: int
    newest: int
    rows: int

    @property
    def step(self) -> float:
        return (self.newest - self.oldest) / self.rows

    @classmethod
    def of(cls, parts: Sequence[_Span]) -> _Span | None:
        if not parts:
            return None
        oldest, newest = min(one.oldest for one in parts), max(one.newest for one in parts)
        return cls(oldest, newest, sum(one.rows for one in parts))


@dataclass
class _Reading:
    """Earlier transactions on their way into a set."""

    batches: Iterator[pa.RecordBatch | None]
    #: Oldest and newest event time of the batch with which the set began, microseconds.
    oldest: int
    newest: int
    #: Times of what has been read.
    read: list[_Span]


@dataclass
class _Set:
    """A set of definitions and its windows."""

    number: int
    windows: VelocityShard
    #: Name of each feature to its column.
    columns: Mapping[str, str]
    full_from: int
    ready: bool
    unused_since: int | None = None
    revision: int = 0
    #: The earlier transactions that are being read, or None.
    reading: _Reading | None = None

    @property
    def definitions(self) -> tuple[Velocity, ...]:
        return self.windows.definitions

    @property
    def reach(self) -> int:
        """Longest window, microseconds."""
        return look_back(self.definitions)

    @property
    def shown(self) -> str:
        key = " and ".join(self.definitions[0].key)
        return f"windows of {key} over {spoken(self.reach)}"

    def note(self, *, dropped: bool = False) -> Delta:
        self.revision += 1
        definitions = [] if self.number == FIRST else [s.to_dict() for s in self.definitions]
        reading = self.reading is not None
        state = self.full_from, self.ready, self.unused_since, dropped, reading
        return Delta(SetNote(self.number, self.revision, definitions, *state).to_bytes())


class WindowSetsShard:
    """Add the features of every set whose windows are full to transactions.

    Args:
      shard: number of the shard.
      first: definitions of one key that the step was made for; empty for none.
      make: creates their windows, which read the history of a new stream.
      further: creates the windows of further sets, without a history.
      filling: how further sets are filled.
    """

    #: No row waits.
    waiting = False

    def __init__(
        self,
        shard: int,
        first: tuple[Velocity, ...],
        make: MakeWindows,
        further: MakeWindows,
        filling: Filling,
    ) -> None:
        self._shard, self._further, self._filling = shard, further, filling
        self._key = first[0].key if first else None
        #: Never changed in place: a server merges deltas in another thread.
        self._sets: tuple[_Set, ...] = ()
        #: Columns of the keys of all sets.
        self.key_columns: tuple[str, ...] = ()
        if first:
            columns = {name: name for spec in first for name in spec.names}
            self._have((_Set(FIRST, make(first), columns, 0, ready=True),))
        self._latest = FIRST
        self._seen: Wanted | None = None
        #: Whether time changes a set: it is not ready, or not needed.
        self._changing = False

    @property
    def needed_from(self) -> int:
        """Time before which no window of a set starts."""
        from_sets = (one.windows.needed_from for one in self._sets)
        # Without a set, all deltas but the notes may go.
        return min(from_sets, default=(1 << 63) - 1)

    @property
    def rows(self) -> int:
        """Number of rows in memory, over all sets."""
        return sum(one.windows.rows for one in self._sets)

    @property
    def ready(self) -> list[tuple[Velocity, ...]]:
        """Definitions of the sets whose features are added."""
        return [one.definitions for one in self._sets if one.ready]

    def restore(self, stored: Sequence[bytes]) -> Effects:
        """Restore every set, or read the history if there is no state."""
        if not stored:
            first = [one.windows.restore(()) for one in self._sets]
            return Effects(deltas=[delta for effects in first for delta in effects.deltas])
        sections, notes = divided(stored)
        for number, note in sorted(notes.items()):
            self._latest = max(self._latest, number)
            if number != FIRST and not (note.dropped or note.reading):
                definitions = tuple(Velocity.from_dict(spec) for spec in note.definitions)
                self._add(self._created(number, definitions, note.full_from))
            for one in [one for one in self._sets if one.number == number]:
                one.ready, one.revision = note.ready, note.revision
                one.unused_since = note.unused_since
                if note.dropped:
                    self._remove(one)
        for one in self._sets:
            # Otherwise it would read the history again.
            if one.number in sections:
                one.windows.restore(sections[one.number])
        self._changing = any(not one.ready or one.unused_since is not None for one in self._sets)
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Return transactions with the features of all sets that are ready; or labels."""
        if is_of_labels(batch):
            labelled = [(one, one.windows.take(batch)) for one in self._sets]
            deltas = [_of_set(one, delta) for one, made in labelled for delta in made.deltas]
            return Effects([batch], deltas)
        deltas = self.renew(event_micros(batch))
        if not deltas and self.only_first:
            return self._sets[0].windows.take(batch)
        features, observed = self.observe(batch)
        return Effects([with_columns(batch, features)], [*deltas, *observed])

    def renew(self, times: Times) -> list[Delta]:
        """Begin, use and drop sets before transactions are added; return what that changes.

        Args:
          times: event times of the transactions, int64[n] microseconds.
        """
        if self._stays() or not len(times):
            return []
        wanted = self._filling.wanted()
        deltas = self.read()
        if wanted is not None and wanted is not self._seen:
            deltas += self._needed_by(wanted, int(times.min()), int(times.max()))
            self._seen = wanted
        # No single row decides, however far ahead or late it is.
        now = int(np.partition(times, len(times) // 2)[len(times) // 2])
        for one in self._sets:
            if not one.ready and one.reading is None and now >= one.full_from:
                one.ready = True
                deltas.append(one.note())
                self._say("%s are full", one.shown)
            elif one.unused_since is not None and now - one.unused_since > one.reach:
                deltas.append(self._dropped(one))
        self._changing = any(not one.ready or one.unused_since is not None for one in self._sets)
        return deltas

    def renew_by_one(self, time: int) -> list[Delta]:
        """Do the same before one transaction is added."""
        return [] if self._stays() else self.renew(np.array([time]))

    def _stays(self) -> bool:
        """Return whether the sets are those of the last transaction, whatever time it is."""
        return not self._changing and self._filling.wanted() is self._seen

    def read(self) -> list[Delta]:
        """Add the earlier transactions that can be read now; return what that changes."""
        deltas = list[Delta]()
        for one in [one for one in self._sets if one.reading is not None]:
            deltas += self._read(one)
            if one.reading is None:
                deltas.append(one.note())
        return deltas

    @property
    def reads(self) -> bool:
        """Return whether earlier transactions are being read."""
        return any(one.reading is not None for one in self._sets)

    def standing(self, wanted: Sequence[Velocity]) -> bool | None:
        """Return whether the windows of definitions of one key are full; None without them."""
        ready = [one.ready for one in self._sets if covers(one.definitions, wanted)]
        return any(ready) if ready else None

    def observe(
        self, batch: pa.RecordBatch, measures: Measures | None = None
    ) -> tuple[dict[str, Feature], list[Delta]]:
        """Add n transactions to every set; return features by column, float64[n], and the deltas.

        Args:
          batch: the transactions.
          measures: their times and amounts, if they are computed already.
        """
        features, deltas = dict[str, Feature](), list[Delta]()
        if self._sets and not self.only_first:
            measures = measures or Measures.of(batch)
        for one in self._sets:
            if not one.ready:
                deltas.append(_of_set(one, one.windows.fill(batch, measures)))
                continue
            computed, effects = one.windows.observe(batch, measures)
            features |= {one.columns[name]: feature for name, feature in computed.items()}
            deltas += [_of_set(one, delta) for delta in effects.deltas]
        return features, deltas

    def peek(self, transaction: pa.RecordBatch) -> dict[str, Feature]:
        """Return the features, by column, that one transaction would have now."""
        return {
            one.columns[name]: feature
            for one in self._sets
            if one.ready
            for name, feature in one.windows.peek(transaction).items()
        }

    @property
    def of_values(self) -> bool:
        """Return whether all sets support `observe_values`."""
        return all(one.windows.of_values for one in self._sets)

    def observe_values(
        self, time: int, amount: int, hash_of: Callable[[tuple[str, ...]], int]
    ) -> tuple[dict[str, float], list[Delta]]:
        """Add one transaction, which is no known fraud; return features by column, and deltas.

        Args:
          time: its event time, microseconds.
          amount: units of `fixed_point`.
          hash_of: returns the hash of a key.
        """
        features: dict[str, float] = {}
        deltas: list[Delta] = []
        for one in self._sets:
            computed, delta = one.windows.observe_one(hash_of(one.windows.key), time, amount)
            deltas.append(_of_set(one, delta))
            if one.number == FIRST:
                features |= computed
            elif one.ready:
                features |= {one.columns[name]: value for name, value in computed.items()}
        return features, deltas

    def observe_rows(
        self,
        measures: Measures,
        hashes_of: Callable[[tuple[str, ...]], Hashes],
        ids: Hashes,
        fraud: Mask,
    ) -> tuple[dict[str, Feature], list[Delta]]:
        """Do the same for n > 0 transactions, of which some may be known frauds.

        Args:
          measures: their times and amounts.
          hashes_of: returns the hashes of a key, uint64[n].
          ids: uint64[n], hashes of their ids.
          fraud: bool[n]: which are known frauds.
        """
        features, deltas = dict[str, Feature](), list[Delta]()
        for one in self._sets:
            keys = hashes_of(one.windows.key)
            rows = KeyRows(keys, measures.times, measures.amounts)
            computed, delta = one.windows.observe_rows(rows, ids, fraud)
            deltas.append(_of_set(one, delta))
            if one.number == FIRST or one.ready:
                features |= {one.columns[name]: feature for name, feature in computed.items()}
        return features, deltas

    def settle(self) -> None:
        """Do what the next single row may have to do first; between two rows.

        Raises:
          FraudError: there are too many keys; the next row raises it, too.
        """
        for one in self._sets:
            one.windows.settle()

    def tick(self, now: float) -> Effects:
        """Do nothing."""
        return Effects()

    def finish(self) -> Effects:
        """No row waits."""
        return Effects()

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Merge the state of each set, without that of sets that were dropped."""
        sections, _ = divided(deltas)
        merged = [
            (one.number, one.windows.merge(sections[one.number]))
            for one in self._sets
            if one.number in sections
        ]
        if [number for number, _ in merged] == [FIRST]:
            return merged[0][1]
        return b"".join(section(number, data) for number, data in merged)

    @property
    def only_first(self) -> bool:
        """Return whether there is no set but the first."""
        return len(self._sets) == 1 and self._sets[0].number == FIRST

    def _takes(self, key: tuple[str, ...]) -> bool:
        elsewhere = self._filling.elsewhere
        return key == self._key or (elsewhere is not None and key not in elsewhere)

    def _needed_by(self, wanted: Wanted, oldest: int, newest: int) -> Iterator[Delta]:
        """Begin what is missing, and note what is needed no more."""
        used = set[int]()
        for model in wanted:
            for key, definitions in by_key(model).items():
                if not self._takes(key):
                    continue
                holding = [one for one in self._sets if covers(one.definitions, definitions)]
                if not holding:
                    begun, deltas = self._begun(definitions, int(oldest), int(newest))
                    yield from deltas
                    holding = [begun]
                used.add(holding[0].number)
        for one in self._sets:
            if one.number in used:
                if one.unused_since is not None:
                    one.unused_since = None
                    yield one.note()
            elif not one.ready:
                yield self._dropped(one)
            elif one.unused_since is None and not (
                one.number == FIRST and self._filling.keeps_first
            ):
                one.unused_since = int(newest)
                yield one.note()

    def _created(self, number: int, definitions: tuple[Velocity, ...], full_from: int) -> _Set:
        columns = further_columns(definitions)
        return _Set(number, self._further(definitions), columns, full_from, ready=False)

    def _begun(
        self, definitions: tuple[Velocity, ...], oldest: int, newest: int
    ) -> tuple[_Set, list[Delta]]:
        """Begin a set with the batch that is about to be added."""
        self._latest += 1
        begun = self._created(self._latest, definitions, 0)
        history = self._filling.history
        batches = iter(()) if history is None else history()
        begun.reading = _Reading(batches, oldest, newest, [])
        self._add(begun)
        deltas = self._read(begun)
        return begun, [begun.note(), *deltas]

    def _read(self, one: _Set) -> list[Delta]:
        """Add what can be read now to a set; return the deltas."""
        reading = one.reading
        assert reading is not None
        deltas = list[Delta]()
        try:
            for batch in reading.batches:
                if batch is None:
                    return deltas
                times = event_micros(batch)
                # Later ones come with the stream.
                earlier = batch.filter(pa.array(times < reading.oldest))
                if len(earlier):
                    times = times[times < reading.oldest]
                    span = _Span(int(times.min()), int(times.max()), len(times))
                    reading.read.append(span)
                    deltas.append(_of_set(one, one.windows.fill(one.windows.mine(earlier))))
            earlier_rows = _Span.of(reading.read)
        except FraudError as error:
            # What was read stays; without an end near the first row, the set waits until its
            # windows are full.
            _LOG.error("%s: the earlier transactions cannot be read: %s", one.shown, error)
            earlier_rows = None
        self._filled(one, reading, earlier_rows)
        return deltas

    def _filled(self, one: _Set, reading: _Reading, earlier: _Span | None) -> None:
        """Set the time from which a set is full, as all earlier transactions are in it."""
        one.reading = None
        # A row that arrived before is missing, and may be as new as the first batch.
        since = reading.newest
        joins = earlier is not None and reading.oldest - earlier.newest <= max(
            _GAP * one.reach, _GAP_ROWS * earlier.step, self._filling.lateness
        )
        if earlier is not None and joins:
            since = earlier.oldest
        one.full_from = since + one.reach + self._filling.lateness
        if self._filling.warm_up is not None:
            one.full_from = min(one.full_from, reading.newest + self._filling.warm_up)
        filled = "" if earlier is None else f"from rows since {_shown(earlier.oldest)} and "
        self._say(
            "%s are filled %swith every row; they are full at the event time %s",
            *(one.shown, filled, _shown(one.full_from)),
        )
        if earlier is not None and not joins:
            self._say(
                "%s: the earlier transactions end at %s, and what came after them is missing",
                *(one.shown, _shown(earlier.newest)),
            )

    def _add(self, one: _Set) -> None:
        self._have((*self._sets, one))

    def _remove(self, one: _Set) -> None:
        self._have(tuple(other for other in self._sets if other is not one))

    def _have(self, sets: tuple[_Set, ...]) -> None:
        self._sets = sets
        self.key_columns = tuple({name: None for one in sets for name in one.windows.key})

    def _dropped(self, one: _Set) -> Delta:
        self._remove(one)
        self._say("%s are dropped: no model needs them", one.shown)
        return one.note(dropped=True)

    def _say(self, text: str, *values: object) -> None:
        """Log, once for all shards."""
        if not self._shard:
            _LOG.info(text, *values)


def _shown(micros: int) -> str:
    return moment_of(micros).isoformat(timespec="seconds")


def _of_set(one: _Set, delta: Delta) -> Delta:
    """Return a delta of the state of a set; that of the first is as if it were the only one."""
    if one.number == FIRST:
        return delta
    return Delta(section(one.number, delta.data), delta.newest)
