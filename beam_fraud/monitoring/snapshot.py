"""A moment of a stream: what was counted, how far it has come, how long it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from beam_fraud.monitoring.counters import (
    DEAD_PREFIX,
    ROWS_DEAD,
    ROWS_DUPLICATE,
    ROWS_SCORED,
    RULE_PREFIX,
)
from beam_fraud.monitoring.latency import LatencyHistogram


class Position(msgspec.Struct, frozen=True, array_like=True):
    """How far a source is read."""

    #: Offset of the message that is read next.
    next: int
    #: Offset that the next message to arrive will have.
    high: int
    #: When that was so, in seconds of the epoch.
    at: float

    @property
    def lag(self) -> int:
        """Messages that wait."""
        return max(self.high - self.next, 0)


class Snapshot(msgspec.Struct, frozen=True):
    """What a worker, or all of them, have done since they started.

    Work that a runner does again after a failure is counted again.
    """

    #: Name (`counter_names`) to rows.
    counters: dict[str, int] = {}
    #: `<topic>:<partition>` to how far it is read.
    positions: dict[str, Position] = {}
    #: From the broker's taking a message to its score.
    latency: LatencyHistogram = msgspec.field(default_factory=LatencyHistogram)
    #: When the newest of it was written, in seconds of the epoch; 0 if nothing was.
    updated: float = 0.0
    #: The process of the worker; 0 for several together.
    pid: int = 0
    #: When the first transaction came and the last was scored, in seconds of the epoch; 0 if none.
    began: float = 0.0
    scored_at: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first transaction that came to the last that was scored."""
        return max(self.scored_at - self.began, 0.0)

    def count(self, name: str) -> int:
        """Rows of a counter, 0 if it never counted."""
        return self.counters.get(name, 0)

    @property
    def done(self) -> int:
        """Transactions that something became of: scored, dead or a duplicate."""
        return sum(self.count(name) for name in (ROWS_SCORED, ROWS_DEAD, ROWS_DUPLICATE))

    @property
    def dead_by_reason(self) -> dict[str, int]:
        """Reason to the dead letters that have it."""
        return self._under(DEAD_PREFIX)

    @property
    def fired_by_rule(self) -> dict[str, int]:
        """Rule to the rows that it fired on."""
        return self._under(RULE_PREFIX)

    def _under(self, prefix: str) -> dict[str, int]:
        return {
            name.removeprefix(prefix): rows
            for name, rows in self.counters.items()
            if name.startswith(prefix)
        }

    @property
    def lag(self) -> int:
        """Messages that wait in all sources."""
        return sum(position.lag for position in self.positions.values())


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return what several workers have done together; of a source, the position told last.

    >>> one = Snapshot({"rows_in": 3}, {"tx:0": Position(5, 9, at=1.0)}, updated=1.0)
    >>> two = Snapshot({"rows_in": 4}, {"tx:0": Position(7, 9, at=2.0)}, updated=2.0)
    >>> both = merge([two, one])
    >>> both.counters, both.lag, both.updated
    ({'rows_in': 7}, 2, 2.0)
    """
    counters: dict[str, int] = {}
    positions: dict[str, Position] = {}
    latency, updated, began, scored_at = LatencyHistogram(), 0.0, 0.0, 0.0
    for snapshot in snapshots:
        for name, rows in snapshot.counters.items():
            counters[name] = counters.get(name, 0) + rows
        for source, position in snapshot.positions.items():
            # A source moves to another worker when one dies.
            if source not in positions or positions[source].at < position.at:
                positions[source] = position
        latency = latency.merged(snapshot.latency)
        updated = max(updated, snapshot.updated)
        scored_at = max(scored_at, snapshot.scored_at)
        began = min(began or snapshot.began, snapshot.began or began)
    return Snapshot(counters, positions, latency, updated, 0, began, scored_at)


def topic_and_partition(source: str) -> tuple[str, str]:
    """Return the two parts of the name of a source; no partition if there is none.

    >>> topic_and_partition("a:b:12"), topic_and_partition("orders")
    (('a:b', '12'), ('orders', ''))
    """
    topic, _, partition = source.rpartition(":")
    return (topic, partition) if topic else (source, "")


class AlertCounts(Protocol):
    """Alerts of one channel, as `alerts.outbox.Counts` has them."""

    @property
    def pending(self) -> int:
        """Waiting to be sent."""

    @property
    def sent(self) -> int:
        """Sent, in this run or an earlier one."""

    @property
    def failed(self) -> int:
        """Given up, because the receiver refused them again and again."""

    @property
    def snoozed(self) -> int:
        """Waiting for the end of a snooze."""


#: Tells channel to counts; may raise FraudError if they cannot be had now.
ReadAlerts = Callable[[], Mapping[str, AlertCounts]]


def no_alerts() -> Mapping[str, AlertCounts]:
    """For a stream that alerts nobody."""
    return {}
