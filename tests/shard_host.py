"""A host of a shard for tests: store its deltas, drop it, restore another one from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from beam_fraud.features.event_clock import EventClock
from beam_fraud.schema.schema import EVENT_TIME
from beam_fraud.sources.raw import POSITION, Origin, with_origin
from beam_fraud.state.shard import Delta, Effects, Shard
from beam_fraud.storage.checkpoint import FOREVER

TRANSACTIONS = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("event_time", EVENT_TIME, nullable=False),
        pa.field(POSITION, pa.int64()),
    ]
)


def transactions(
    ids: Sequence[str],
    times: Sequence[int],
    *,
    source: str = "t:0",
    start: int = 0,
    appended: int | None = None,
) -> pa.RecordBatch:
    """Return a batch of valid transactions, times in microseconds."""
    origin = Origin(source, "jsonl", appended=appended)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(ids, pa.string()),
            pa.array(times, pa.int64()).cast(EVENT_TIME),
            pa.array(np.arange(start, start + len(ids))),
        ],
        schema=with_origin(TRANSACTIONS, origin),
    )


def ids_of(batches: Sequence[pa.RecordBatch]) -> list[str]:
    return [id for batch in batches for id in batch.column("transaction_id").to_pylist()]


def newest_row() -> EventClock:
    """A clock at the newest event time, for tests with few rows."""
    return EventClock(block=1, blocks=1)


@dataclass
class Clock:
    """A clock that tests set."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Event:
    """A batch at a time, or a time alone."""

    now: float
    batch: pa.RecordBatch | None = None


@dataclass
class Host:
    """Hosts one shard; its stored deltas outlive the shard."""

    make: Callable[[Clock], Shard]
    clock: Clock = field(default_factory=Clock)
    kept: list[Delta] = field(default_factory=list)
    rows: list[pa.RecordBatch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restore()

    def restore(self) -> None:
        """Replace the shard by a restored one."""
        self.shard = self.make(self.clock)
        effects = self.shard.restore([delta.data for delta in self.kept])
        self._commit([effects])

    def bundle(self, events: Sequence[Event]) -> None:
        """Process events; store their effects together."""
        self._commit([self._hand(event) for event in events])

    def fail(self, events: Sequence[Event]) -> None:
        """Process events; lose their effects and the shard."""
        for event in events:
            self._hand(event)
        self.restore()

    def finish(self) -> None:
        self._commit([self.shard.finish()])

    def drop(self) -> None:
        """Drop expired deltas."""
        needed = self.shard.needed_from
        self.kept = [delta for delta in self.kept if delta.newest >= needed]

    def merge(self, most: int) -> None:
        """Merge the oldest mergeable deltas."""
        merged = [delta for delta in self.kept if delta.newest < FOREVER][:most]
        if merged:
            data = self.shard.merge([delta.data for delta in merged])
            others = [delta for delta in self.kept if all(delta is not one for one in merged)]
            self.kept = [Delta(data, max(delta.newest for delta in merged)), *others]

    def _hand(self, event: Event) -> Effects:
        self.clock.now = event.now
        return self.shard.tick(event.now) if event.batch is None else self.shard.take(event.batch)

    def _commit(self, effects: Sequence[Effects]) -> None:
        for effect in effects:
            self.rows += effect.rows
            self.kept = [*(() if effect.replaces else self.kept), *effect.deltas]
