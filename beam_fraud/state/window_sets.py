"""The shard of the velocity features of several sets of definitions, which come and go.

A model with other definitions gets a set of its own: it is filled from earlier transactions and
with every row, and emits no features before its windows are full. A set that no model needs any
more goes on for as long as its longest window, because a rollback may need it, and is then dropped.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.features.velocity.columns import by_key, with_columns
from beam_fraud.features.velocity.definition_sets import covers, further_columns
from beam_fraud.features.velocity.key_rows import Measures
from beam_fraud.features.velocity.reach import look_back, spoken
from beam_fraud.features.velocity.window_totals import Feature
from beam_fraud.schema.event_time import event_micros, moment_of
from beam_fraud.schema.velocity import Velocity
from beam_fraud.sources.raw import is_of_labels
from beam_fraud.state.shard import Delta, Effects
from beam_fraud.state.velocity import History, VelocityShard

_LOG = logging.getLogger(__name__)
#: Headers of a section of a set's state, with the number of the set and the length, and of a note
#: about a set. The state of the first set alone has no sections: its deltas begin with 1 to 3.
_SECTION, _NOTE = 0x10, 0x11
_HEADER = struct.Struct("<BIQ")
#: Number of the set of the start.
_FIRST = 0
#: What may lie between earlier transactions and the first row: a share of the longest window, or
#: so many times the mean time between two earlier rows.
_GAP, _GAP_ROWS = 0.01, 3

#: Type: definitions of each model that decides or waits for its windows; None: not known yet.
Wanted = tuple[tuple[Velocity, ...], ...]
#: Type: create the windows of definitions of one key.
MakeWindows = Callable[[tuple[Velocity, ...]], VelocityShard]


@dataclass(frozen=True)
class Filling:
    """How further sets of a step are filled."""

    #: Returns what models need; the same object as long as that does not change.
    wanted: Callable[[], Wanted | None] = lambda: None
    #: Reads earlier transactions anew, or None.
    history: History | None = None
    #: Microseconds of event time after which a set is used though its windows are not full; None
    #: to wait until they are.
    warm_up: int | None = None
    #: Microseconds that a row may be late and still see all its windows.
    lateness: int = 0
    #: Keys of other steps; None if this step takes its own key alone.
    elsewhere: frozenset[tuple[str, ...]] | None = None
    #: Whether the set of the start stays though no model needs it.
    keeps_first: bool = False


class _Note(msgspec.Struct, frozen=True):
    """What is stored about a set; the latest of its notes holds."""

    number: int
    revision: int
    #: Definitions as in a schema; empty for the set of the start.
    definitions: list[dict[str, object]]
    #: Event time from which windows are full enough to be used, microseconds.
    full_from: int
    ready: bool
    #: Event time since which no model needs it, or None.
    unused_since: int | None
    dropped: bool = False


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
        definitions = [] if self.number == _FIRST else [s.to_dict() for s in self.definitions]
        state = self.full_from, self.ready, self.unused_since, dropped
        encoded = msgspec.json.encode(_Note(self.number, self.revision, definitions, *state))
        return Delta(_HEADER.pack(_NOTE, self.number, len(encoded)) + encoded)


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
        self._sets: list[_Set] = []
        if first:
            columns = {name: name for spec in first for name in spec.names}
            self._sets.append(_Set(_FIRST, make(first), columns, 0, ready=True))
        self._latest = _FIRST
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
        sections, notes = _divided(stored)
        for number, note in sorted(notes.items()):
            self._latest = max(self._latest, number)
            if number != _FIRST and not note.dropped:
                definitions = tuple(Velocity.from_dict(spec) for spec in note.definitions)
                self._sets.append(self._created(number, definitions, note.full_from))
            for one in [one for one in self._sets if one.number == number]:
                one.ready, one.revision = note.ready, note.revision
                one.unused_since = note.unused_since
                if note.dropped:
                    self._sets.remove(one)
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
        deltas = self.renew(batch)
        if not deltas and self._only_first:
            return self._sets[0].windows.take(batch)
        features, observed = self.observe(batch)
        return Effects([with_columns(batch, features)], [*deltas, *observed])

    def renew(self, batch: pa.RecordBatch) -> list[Delta]:
        """Begin, use and drop sets before transactions are added; return what that changes."""
        wanted = self._filling.wanted()
        if (wanted is self._seen and not self._changing) or not len(batch):
            return []
        times = event_micros(batch)
        deltas = list[Delta]()
        if wanted is not None and wanted is not self._seen:
            deltas += self._needed_by(wanted, times.min(), times.max())
            self._seen = wanted
        # No single row decides, however far ahead or late it is.
        now = int(np.partition(times, len(times) // 2)[len(times) // 2])
        for one in list(self._sets):
            if not one.ready and now >= one.full_from:
                one.ready = True
                deltas.append(one.note())
                self._say("%s are full", one.shown)
            elif one.unused_since is not None and now - one.unused_since > one.reach:
                deltas.append(self._dropped(one))
        self._changing = any(not one.ready or one.unused_since is not None for one in self._sets)
        return deltas

    def observe(
        self, batch: pa.RecordBatch, measures: Measures | None = None
    ) -> tuple[dict[str, Feature], list[Delta]]:
        """Add n transactions to every set; return features by column, float64[n], and the deltas.

        Args:
          batch: the transactions.
          measures: their times and amounts, if they are computed already.
        """
        features, deltas = dict[str, Feature](), list[Delta]()
        if self._sets and not self._only_first:
            measures = measures or Measures.of(batch)
        for one in self._sets:
            if not one.ready:
                deltas.append(_of_set(one, one.windows.fill(batch, measures)))
                continue
            computed, effects = one.windows.observe(batch, measures)
            features |= {one.columns[name]: feature for name, feature in computed.items()}
            deltas += [_of_set(one, delta) for delta in effects.deltas]
        return features, deltas

    def tick(self, now: float) -> Effects:
        """Do nothing."""
        return Effects()

    def finish(self) -> Effects:
        """No row waits."""
        return Effects()

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Merge the state of each set, without that of sets that were dropped."""
        sections, _ = _divided(deltas)
        merged = [
            (one.number, one.windows.merge(sections[one.number]))
            for one in self._sets
            if one.number in sections
        ]
        if [number for number, _ in merged] == [_FIRST]:
            return merged[0][1]
        return b"".join(_section(number, data) for number, data in merged)

    @property
    def _only_first(self) -> bool:
        return len(self._sets) == 1 and self._sets[0].number == _FIRST

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
        for one in list(self._sets):
            if one.number in used:
                if one.unused_since is not None:
                    one.unused_since = None
                    yield one.note()
            elif not one.ready:
                yield self._dropped(one)
            elif one.unused_since is None and not (
                one.number == _FIRST and self._filling.keeps_first
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
        deltas, earlier = self._filled(begun, oldest)
        # A row that arrived before is missing, and may be as new as this batch.
        joins = earlier is not None and oldest - earlier.newest <= max(
            _GAP * begun.reach, _GAP_ROWS * earlier.step, self._filling.lateness
        )
        since = earlier.oldest if earlier is not None and joins else newest
        begun.full_from = since + begun.reach + self._filling.lateness
        if self._filling.warm_up is not None:
            begun.full_from = min(begun.full_from, newest + self._filling.warm_up)
        self._sets.append(begun)
        filled = "" if earlier is None else f"from rows since {_shown(earlier.oldest)} and "
        self._say(
            "%s are filled %swith every row; they are full at the event time %s",
            *(begun.shown, filled, _shown(begun.full_from)),
        )
        if earlier is not None and not joins:
            self._say(
                "%s: the earlier transactions end at %s, and what came after them is missing",
                *(begun.shown, _shown(earlier.newest)),
            )
        return begun, [begun.note(), *deltas]

    def _filled(self, begun: _Set, before: int) -> tuple[list[Delta], _Span | None]:
        """Add earlier transactions to a set; return the deltas, and their times.

        Args:
          begun: the set.
          before: event time of the first row that comes with the stream, microseconds.
        """
        deltas, read = list[Delta](), list[_Span]()
        try:
            for batch in self._filling.history() if self._filling.history is not None else ():
                times = event_micros(batch)
                earlier = batch.filter(pa.array(times < before))
                if not len(earlier):
                    continue
                times = times[times < before]
                read.append(_Span(int(times.min()), int(times.max()), len(times)))
                deltas.append(_of_set(begun, begun.windows.fill(begun.windows.mine(earlier))))
        except FraudError as error:
            # What was read stays, as if the files ended there; without an end near the first row,
            # the set waits until its windows are full.
            _LOG.error("%s: the earlier transactions cannot be read: %s", begun.shown, error)
            return deltas, None
        return deltas, _Span.of(read)

    def _dropped(self, one: _Set) -> Delta:
        self._sets.remove(one)
        self._say("%s are dropped: no model needs them", one.shown)
        return one.note(dropped=True)

    def _say(self, text: str, *values: object) -> None:
        """Log, once for all shards."""
        if not self._shard:
            _LOG.info(text, *values)


def _shown(micros: int) -> str:
    return moment_of(micros).isoformat(timespec="seconds")


def _section(number: int, data: bytes) -> bytes:
    return _HEADER.pack(_SECTION, number, len(data)) + data


def _of_set(one: _Set, delta: Delta) -> Delta:
    """Return a delta of the state of a set; that of the first is as if it were the only one."""
    if one.number == _FIRST:
        return delta
    return Delta(_section(one.number, delta.data), delta.newest)


def _divided(stored: Sequence[bytes]) -> tuple[dict[int, list[bytes]], dict[int, _Note]]:
    """Return the deltas of each set, and its latest note."""
    sections: dict[int, list[bytes]] = {}
    notes: dict[int, _Note] = {}
    for data in stored:
        if data[:1] and data[0] not in (_SECTION, _NOTE):
            sections.setdefault(_FIRST, []).append(data)
            continue
        at = 0
        while at < len(data):
            try:
                kind, number, length = _HEADER.unpack_from(data, at)
                at += _HEADER.size
                content = data[at : at + length]
                if len(content) < length:
                    raise ValueError("cut off")
                if kind == _NOTE:
                    note = msgspec.json.decode(content, type=_Note)
                    if number not in notes or notes[number].revision < note.revision:
                        notes[number] = note
                else:
                    sections.setdefault(number, []).append(content)
            except (struct.error, ValueError):
                raise FraudError(
                    "the stream's state is damaged or of another version; start again with "
                    "another --out",
                    Code.STATE_UNREADABLE,
                ) from None
            at += length
    return sections, notes
