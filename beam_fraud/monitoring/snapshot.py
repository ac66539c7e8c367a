"""A snapshot of a stream: counters, positions and latencies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from beam_fraud.monitoring.counters import (
    DEAD_PREFIX,
    ROWS_CORRECTION,
    ROWS_DEAD,
    ROWS_DUPLICATE,
    ROWS_SCORED,
    ROWS_TOMBSTONE,
    RULE_PREFIX,
    SHADOW_RULE_PREFIX,
)
from beam_fraud.monitoring.latency import LatencyHistogram
from beam_fraud.monitoring.shadow import Dropped, ShadowFigures, shadow_figures

#: Counters of rows by outcome.
_OUTCOMES = (ROWS_SCORED, ROWS_DEAD, ROWS_DUPLICATE, ROWS_TOMBSTONE, ROWS_CORRECTION)


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Position in a source."""

    #: Offset of the next message.
    next: int
    #: Offset of the next message to arrive.
    high: int
    #: Time of the position, seconds of the epoch.
    at: float

    @property
    def lag(self) -> int:
        """Number of unread messages."""
        return max(self.high - self.next, 0)


class Snapshot(msgspec.Struct, frozen=True):
    """The work of one or all workers since their start.

    Work repeated after a failure counts again.
    """

    #: Name (`counter_names`) to rows.
    counters: dict[str, int] = {}
    #: `<topic>:<partition>` to its position.
    positions: dict[str, Position] = {}
    #: Latency from the broker to the score.
    latency: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    #: Time of the latest write, seconds of the epoch; 0 for none.
    updated: float = 0.0
    #: Process id of the worker; 0 for several.
    pid: int = 0
    #: Times of the first arrival and the last score, seconds of the epoch; 0 for none.
    began: float = 0.0
    scored_at: float = 0.0
    #: Id of the model of the last score; empty for none.
    model_id: str = ""
    #: Id to the end of challengers in shadow.
    dropped: dict[str, Dropped] = {}
    #: Id of the model that waits for its windows; empty for none.
    awaited: str = ""

    @property
    def seconds(self) -> float:
        """Seconds from the first arrival to the last score."""
        return max(self.scored_at - self.began, 0.0)

    def count(self, name: str) -> int:
        """Return the rows of a counter, 0 without any."""
        return self.counters.get(name, 0)

    @property
    def done(self) -> int:
        """Rows with an outcome: scored, dead, dropped as duplicates or no transactions."""
        return sum(self.count(name) for name in _OUTCOMES)

    @property
    def dead_by_reason(self) -> dict[str, int]:
        """Return dead letters by reason."""
        return self._under(DEAD_PREFIX)

    @property
    def fired_by_rule(self) -> dict[str, int]:
        """Return fired rows by rule."""
        return self._under(RULE_PREFIX)

    @property
    def fired_by_shadow_rule(self) -> dict[str, int]:
        """Return the same by rule in shadow."""
        return self._under(SHADOW_RULE_PREFIX)

    @property
    def shadows(self) -> dict[str, ShadowFigures]:
        """Return the figures of challengers in shadow."""
        return shadow_figures(self.counters, self.dropped)

    def _under(self, prefix: str) -> dict[str, int]:
        return {
            name.removeprefix(prefix): rows
            for name, rows in self.counters.items()
            if name.startswith(prefix)
        }

    @property
    def lag(self) -> int:
        """Unread messages in all sources."""
        return sum(position.lag for position in self.positions.values())


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Merge the work of several workers; the latest position of a source wins.

    >>> one = Snapshot({"rows_in": 3}, {"tx:0": Position(5, 9, at=1.0)}, updated=1.0)
    >>> two = Snapshot({"rows_in": 4}, {"tx:0": Position(7, 9, at=2.0)}, updated=2.0)
    >>> both = merge([two, one])
    >>> both.counters, both.lag, both.updated
    ({'rows_in': 7}, 2, 2.0)
    """
    counters: dict[str, int] = {}
    positions: dict[str, Position] = {}
    dropped: dict[str, Dropped] = {}
    latency, updated, began, scored_at = LatencyHistogram(), 0.0, 0.0, 0.0
    model_id = awaited = ""
    for snapshot in snapshots:
        for name, rows in snapshot.counters.items():
            counters[name] = counters.get(name, 0) + rows
        for source, position in snapshot.positions.items():
            # A source moves to another worker if one dies.
            if source not in positions or positions[source].at < position.at:
                positions[source] = position
        for key, end in snapshot.dropped.items():
            if key not in dropped or end.since < dropped[key].since:
                dropped[key] = end
        latency = latency.merged(snapshot.latency)
        updated = max(updated, snapshot.updated)
        if snapshot.scored_at >= scored_at:
            scored_at, model_id = snapshot.scored_at, snapshot.model_id or model_id
        awaited = awaited or snapshot.awaited
        began = min(began or snapshot.began, snapshot.began or began)
    times = updated, 0, began, scored_at
    return Snapshot(counters, positions, latency, *times, model_id, dropped, awaited)


def topic_and_partition(source: str) -> tuple[str, str]:
    """Return the two parts of the name of a source; no partition if there is none.

    >>> topic_and_partition("a:b:12"), topic_and_partition("orders")
    (('a:b', '12'), ('orders', ''))
    """
    topic, _, partition = source.rpartition(":")
    return (topic, partition) if topic else (source, "")


class AlertCounts(Protocol):
    """Counts of a channel's alerts, as in `alerts.outbox.Counts`."""

    @property
    def pending(self) -> int:
        """Pending."""

    @property
    def sent(self) -> int:
        """Sent, in this run or an earlier one."""

    @property
    def failed(self) -> int:
        """Given up because the receiver refused them repeatedly."""

    @property
    def snoozed(self) -> int:
        """Snoozed."""


#: Type: counts by channel; may raise FraudError if the database is unreachable.
ReadAlerts = Callable[[], Mapping[str, AlertCounts]]


def no_alerts() -> Mapping[str, AlertCounts]:
    """Return no counts, for a stream without channels."""
    return {}
