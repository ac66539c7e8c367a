"""Mute a rule that fires too often, so that it does not decline everything.

The metadata of a batch carry the muted rules to the step that notifies of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.decisions.decision import decided_columns
from beam_fraud.decisions.inputs import with_muted_rules
from beam_fraud.decisions.rules.rule import FEWEST_ROWS, Fired, RuleSet
from beam_fraud.errors import Code, FraudError
from beam_fraud.features.event_clock import NEVER, ClockState, EventClock
from beam_fraud.models.manifest import Thresholds
from beam_fraud.schema.duration import HOUR
from beam_fraud.schema.event_time import event_micros
from beam_fraud.state.shard import Delta, Effects

_KEY = b"muted"
_Holds = npt.NDArray[np.bool_]


class MutedRule(msgspec.Struct, frozen=True):
    """A rule without effect for the rest of a window."""

    #: Its name.
    rule: str
    #: Start of the window, event time in microseconds.
    window: int
    #: The shard that counted.
    shard: int
    #: Rows of the window that it fired on before it was muted.
    fired: int
    #: Rows of the window up to there.
    rows: int


def with_muted(batch: pa.RecordBatch, muted: Sequence[MutedRule]) -> pa.RecordBatch:
    """Return the batch with muted rules in its metadata."""
    if not muted:
        return batch
    metadata = {**(batch.schema.metadata or {}), _KEY: msgspec.json.encode(muted)}
    return batch.replace_schema_metadata(metadata)


def muted_in(batch: pa.RecordBatch) -> list[MutedRule]:
    """Return the muted rules of a batch."""
    data = (batch.schema.metadata or {}).get(_KEY)
    return [] if data is None else msgspec.json.decode(data, type=list[MutedRule])


def without_muted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch without muted rules in its metadata."""
    metadata = {key: value for key, value in (batch.schema.metadata or {}).items() if key != _KEY}
    return batch.replace_schema_metadata(metadata or None)


class _Window(msgspec.Struct, array_like=True):
    """Counts of a window."""

    #: Rows.
    rows: int = 0
    #: Name of a rule to the number of rows it fired on.
    fired: dict[str, int] = {}
    #: Rules muted for the rest of it.
    muted: list[str] = []

    def add(self, more: _Window) -> None:
        """Add later counts."""
        self.rows += more.rows
        for name, rows in more.fired.items():
            self.fired[name] = self.fired.get(name, 0) + rows
        self.muted += more.muted


class _Counts(msgspec.Struct, array_like=True):
    """The change of a batch; merged changes have the same form."""

    #: Time of the clock; in the state of an earlier version the newest event time, which is
    #: ignored.
    newest: int
    #: Start of a window to its counts.
    windows: dict[int, _Window]
    #: The clock after the batch.
    clock: ClockState | None = None


class RuleShareShard:
    """Mute a rule once it fired on more than a share of a window's rows.

    Windows are tumbling, in event time. Rows count in order of arrival, each before the decision
    whether its own rules apply, so batch sizes do not matter. A row later than every remembered
    window counts in the oldest one; lateness refers to a clock that the bulk of the rows moves
    (`EventClock`). Rules that approve, and those in shadow,
    are never muted.

    Args:
      shard: number of the shard.
      rules: the rules, or None while there are none.
      thresholds: of the model, to decide again.
      limit: the share, 0..1.
      remembered: microseconds before the clock for which windows are kept.
      window: length of a window, microseconds.
      fewest: minimum rows of a window for a reliable share.
      clock: the event clock; None for a new one.
    """

    def __init__(
        self,
        shard: int,
        rules: RuleSet | None,
        thresholds: Thresholds,
        limit: float,
        remembered: int,
        window: int = HOUR,
        fewest: int = FEWEST_ROWS,
        clock: EventClock | None = None,
    ) -> None:
        self._shard = shard
        self.decide_by(rules, thresholds)
        self._limit = limit
        self._window = window
        self._remembered = remembered
        self._fewest = fewest
        self._clock = clock or EventClock()
        self._windows: dict[int, _Window] = {}

    def decide_by(self, rules: RuleSet | None, thresholds: Thresholds) -> None:
        """Take other rules and thresholds for the next rows; rules are counted by their names."""
        self._rules = () if rules is None else rules.rules
        self._names = pa.array([rule.name for rule in self._rules], pa.string())
        self._thresholds = thresholds

    @property
    def needed_from(self) -> int:
        """Start of the oldest window that a row may still count in."""
        return (self._clock.at - self._remembered) // self._window * self._window

    @property
    def waiting(self) -> bool:
        return False

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore the counts."""
        known = _sum_of(deltas)
        self._windows = known.windows
        if known.clock is not None:
            self._clock.resume(known.clock)
        self._forget()
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Return scored rows; decide rows of muted rules again."""
        if not batch.num_rows:
            return Effects()
        if not self._rules:
            return Effects(rows=[batch])
        holds = self._holds(batch)
        silenced, muted, delta = self.count(event_micros(batch), holds)
        decided = self._decided_anew(batch, holds, silenced)
        return Effects(rows=[with_muted(decided, muted)], deltas=[delta])

    def count(
        self, times: npt.NDArray[np.int64], holds: _Holds
    ) -> tuple[_Holds, list[MutedRule], Delta]:
        """Count n > 0 rows.

        Args:
          times: int64[n], event times, microseconds.
          holds: bool[rules, n]: which rules fired.

        Returns:
          bool[rules, n]: for which rows each rule is muted; the newly muted rules; the new state.
        """
        counted_at = np.maximum(times, self._clock.along(times) - self._remembered)
        starts = counted_at // self._window * self._window
        silenced = np.zeros_like(holds)
        muted: list[MutedRule] = []
        added = _Counts(self._clock.at, {}, self._clock.state)
        for start in np.unique(starts).tolist():
            rows = np.flatnonzero(starts == start)
            more = added.windows[start] = _Window(len(rows))
            for rule, first in self._muted_from(start, holds[:, rows], more, muted):
                silenced[rule, rows[first:]] = True
            self._windows.setdefault(start, _Window()).add(more)
        self._forget()
        return silenced, muted, Delta(msgspec.msgpack.encode(added), newest=max(added.windows))

    def count_one(
        self, time: int, holds: Sequence[bool]
    ) -> tuple[list[bool], list[MutedRule], Delta]:
        """Do the same for one row: arrays of one row take five times as long.

        Args:
          time: its event time, microseconds.
          holds: of each rule, whether it fired.

        Returns:
          Of each rule, whether it is muted; the newly muted rules; the new state.
        """
        self._clock.observe_one(time)
        counted_at = max(time, self._clock.at - self._remembered)
        start = counted_at // self._window * self._window
        before = self._windows.setdefault(start, _Window())
        more, rows = _Window(1), before.rows + 1
        silenced = [False] * len(holds)
        muted: list[MutedRule] = []
        for number, (rule, fired) in enumerate(zip(self._rules, holds, strict=True)):
            so_far = before.fired.get(rule.name, 0) + fired
            if rule.shadow or not so_far:
                continue
            if fired:
                more.fired[rule.name] = 1
            if not rule.raises:
                continue
            silenced[number] = rule.name in before.muted
            if not silenced[number] and rows >= self._fewest and so_far > self._limit * rows:
                silenced[number] = True
                more.muted.append(rule.name)
                muted.append(MutedRule(rule.name, start, self._shard, so_far, rows))
        before.add(more)
        added = _Counts(self._clock.at, {start: more}, self._clock.state)
        self._forget()
        return silenced, muted, Delta(msgspec.msgpack.encode(added), newest=start)

    def tick(self, now: float) -> Effects:
        return Effects()

    def finish(self) -> Effects:
        return Effects()

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Sum the changes, without windows in which no row counts any more."""
        total, oldest = _sum_of(deltas), self.needed_from
        total.windows = {start: w for start, w in total.windows.items() if start >= oldest}
        return msgspec.msgpack.encode(total)

    def _muted_from(
        self, start: int, holds: _Holds, more: _Window, muted: list[MutedRule]
    ) -> Iterator[tuple[int, int]]:
        """Yield the muted rules of a window with the first row of each.

        Args:
          start: start of the window.
          holds: bool[rules, k] of its new rows.
          more: receives the new counts.
          muted: receives the newly muted rules.
        """
        before = self._windows.get(start, _Window())
        rows = before.rows + np.arange(1, holds.shape[1] + 1)
        for number, rule in enumerate(self._rules):
            if rule.shadow:
                continue
            fired = int(np.count_nonzero(holds[number]))
            if fired:
                more.fired[rule.name] = fired
            if not rule.raises or not fired + before.fired.get(rule.name, 0):
                continue
            if rule.name in before.muted:
                yield number, 0
                continue
            so_far = before.fired.get(rule.name, 0) + np.cumsum(holds[number])
            over = (rows >= self._fewest) & (so_far > self._limit * rows)
            if over.any():
                first = int(np.argmax(over))
                more.muted.append(rule.name)
                counts = int(so_far[first]), int(rows[first])
                muted.append(MutedRule(rule.name, start, self._shard, *counts))
                yield number, first

    def _holds(self, batch: pa.RecordBatch) -> _Holds:
        """Return bool[rules, n]: which rules fired for which rows."""
        names = batch.column("rules")
        holds = np.zeros((len(self._rules), len(batch)), dtype=bool)
        rules = pc.index_in(names.flatten(), value_set=self._names)
        rows = np.repeat(np.arange(len(batch)), np.asarray(pc.list_value_length(names)))
        holds[np.asarray(rules), rows] = True
        return holds

    def _decided_anew(
        self, batch: pa.RecordBatch, holds: _Holds, silenced: _Holds
    ) -> pa.RecordBatch:
        if not (holds & silenced).any():
            return batch
        scores = np.asarray(batch.column("score"))
        fired = Fired(self._rules, holds & ~silenced)
        for name, column in decided_columns(scores, self._thresholds, fired).items():
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, batch.schema.field(place), column)
        return with_muted_rules(batch, Fired(self._rules, holds), silenced)

    def _forget(self) -> None:
        oldest = self.needed_from
        self._windows = {start: w for start, w in self._windows.items() if start >= oldest}


def _sum_of(deltas: Sequence[bytes]) -> _Counts:
    total = _Counts(NEVER, {})
    for data in deltas:
        try:
            part = msgspec.msgpack.decode(data, type=_Counts)
        except msgspec.DecodeError:
            raise FraudError(
                "the stream's state: the counts of its rules are damaged; "
                "start again with another --out",
                Code.STATE_UNREADABLE,
            ) from None
        total.newest = max(total.newest, part.newest)
        # The state is restored in order.
        total.clock = part.clock or total.clock
        for start, window in part.windows.items():
            total.windows.setdefault(start, _Window()).add(window)
    return total
