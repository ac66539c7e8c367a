"""Reorder rows of several partitions by event time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.schema.event_time import event_micros
from beam_fraud.sources.raw import Origin, origin_of, with_origin
from beam_fraud.state.shard import Delta, Effects, Unaged, rows_from_bytes, rows_to_bytes

#: Rows per emitted batch.
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class WaitingRows:
    """One or more rows of one source, sorted by event time, then arrival."""

    #: The rows, with their origin.
    batch: pa.RecordBatch
    #: int64[n]: event times, microseconds, ascending.
    times: npt.NDArray[np.int64]
    #: Arrival, seconds of the epoch.
    came: float

    @classmethod
    def of(cls, batch: pa.RecordBatch, came: float) -> WaitingRows:
        """Return the rows of a batch, sorted."""
        times = event_micros(batch)
        if (times[1:] < times[:-1]).any():
            order = np.argsort(times, kind="stable")
            batch, times = batch.take(pa.array(order)), times[order]
        return cls(batch, times, came)

    @property
    def newest(self) -> int:
        """The latest event time, microseconds."""
        return int(self.times[-1])

    def before(self, moment: int) -> WaitingRows | None:
        """Return the rows with an event time before `moment`, None if there are none."""
        return self._sliced(0, int(np.searchsorted(self.times, moment)))

    def since(self, moment: int) -> WaitingRows | None:
        """Return the other rows."""
        return self._sliced(int(np.searchsorted(self.times, moment)), len(self.times))

    def _sliced(self, start: int, end: int) -> WaitingRows | None:
        if end - start == len(self.times):
            return self
        if start == end:
            return None
        return replace(self, batch=self.batch[start:end], times=self.times[start:end])


def merged(blocks: Sequence[WaitingRows]) -> Iterator[pa.RecordBatch]:
    """Yield all rows in the order of event time, then source, at most 10,000 in a batch.

    Rows of equal time and source stay in the order of `blocks`, their arrival. The origin of a
    batch is that of its last row, and its `appended` the oldest of any row.
    """
    if not blocks:
        return
    origins = [origin_of(block.batch) for block in blocks]
    rows = pa.concat_batches([block.batch.replace_schema_metadata(None) for block in blocks])
    block_of_row = np.repeat(np.arange(len(blocks)), [len(block.times) for block in blocks])
    if len(blocks) > 1:
        ranks = np.unique([origin.source for origin in origins], return_inverse=True)[1]
        times = np.concatenate([block.times for block in blocks])
        order = np.lexsort((ranks[block_of_row], times))
        rows, block_of_row = rows.take(pa.array(order)), block_of_row[order]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        of_part = [origins[block] for block in np.unique(block_of_row[part])]
        origin = replace(origins[block_of_row[part][-1]], appended=_oldest(of_part))
        yield rows[part].replace_schema_metadata(with_origin(rows.schema, origin).metadata)


def _oldest(origins: Sequence[Origin]) -> int | None:
    return min((o.appended for o in origins if o.appended is not None), default=None)


#: Rewrite the state after so many deltas, or when most of the rows in them are gone.
_MOST_DELTAS = 100
_FEWEST_ROWS = 10_000
#: Maximum clock difference between machines in seconds.
_SKEW = 60.0


class _Source(msgspec.Struct, frozen=True, array_like=True):
    """State of a partition."""

    #: Newest event time, microseconds.
    newest: int
    #: Arrival of its latest rows, seconds of the epoch.
    heard: float


class _State(msgspec.Struct, frozen=True, array_like=True):
    """The change of a call; the whole state has the same form."""

    #: Changed sources.
    sources: dict[str, _Source] = {}
    #: Event time before which waiting rows were emitted (microseconds).
    released: int | None = None
    #: Arrival and rows, for all new rows that wait.
    waiting: list[tuple[float, bytes]] = []


class ReorderShard(Unaged):
    """Delay rows until all partitions are past their event time, or for `wait` seconds.

    Rows are emitted in the order of event time, source and position (a source's rows arrive in the
    order of their positions). A row is emitted once every source has shown a later one. A row that
    has waited for `wait` seconds is emitted anyway, with all earlier ones; a source that was silent
    for so long delays nothing.

    Each source is assumed to be in order, as a partition is. Labels are emitted at once, and so are
    rows further ahead of this machine's clock than others can wait: waiting for them, or emitting
    all earlier rows, would put the rest out of order.

    Emitted batches mix rows of several sources: `@position` is the row's own, but the origin is
    that of the newest row, and its `appended` the oldest in the batch.

    Args:
      wait: seconds.
      clock: current time, seconds of the epoch.
      columns: those of the rows, which restored rows get where another run read others; None for
        rows of the same columns.
    """

    def __init__(
        self,
        wait: float,
        clock: Callable[[], float] = time.time,
        columns: pa.Schema | None = None,
    ) -> None:
        self._wait = wait
        self._columns = columns
        self._clock = clock
        self._sources: dict[str, _Source] = {}
        self._blocks: list[WaitingRows] = []
        #: Deltas since the last full state, and their rows.
        self._deltas = 0
        self._rows_kept = 0

    @property
    def waiting(self) -> bool:
        """Return whether any row waits."""
        return bool(self._blocks)

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore waiting rows with their remaining waits."""
        for data in deltas:
            try:
                change = msgspec.msgpack.decode(data, type=_State)
            except msgspec.DecodeError:
                raise FraudError(
                    "the stream's state: the rows that wait for their order are damaged; "
                    "start again with another --out",
                    Code.STATE_UNREADABLE,
                ) from None
            self._sources |= change.sources
            if change.released is not None:
                self._release_before(change.released)
            blocks = [
                WaitingRows.of(_with_columns(rows_from_bytes(rows), self._columns), came)
                for came, rows in change.waiting
            ]
            self._blocks += blocks
            self._rows_kept += sum(len(block.times) for block in blocks)
        self._deltas = len(deltas)
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Accept rows of `Schema.transactions` with `@position` and an origin; or labels."""
        origin = origin_of(batch)
        if origin.content == "labels":
            return Effects(rows=[batch])
        if not batch.num_rows:
            return Effects()
        now = self._clock()
        latest = int((now + max(self._wait, _SKEW)) * 1_000_000)
        came = WaitingRows.of(batch, now)
        in_time, ahead = came.before(latest), came.since(latest)
        before = self._sources.get(origin.source)
        shown = [] if before is None else [min(before.newest, latest)]
        shown += [] if in_time is None else [in_time.newest]
        # A source with nothing but rows ahead delays no other.
        newest = max(shown, default=latest)
        self._sources[origin.source] = _Source(newest, now)
        effects = self._let_go(now, in_time, {origin.source: self._sources[origin.source]})
        if ahead is None:
            return effects
        return replace(effects, rows=[*effects.rows, *merged([ahead])])

    def tick(self, now: float) -> Effects:
        """Emit rows that have waited long enough."""
        return self._let_go(now) if self._blocks else Effects()

    def finish(self) -> Effects:
        """Emit all rows."""
        rows = list(merged(self._blocks))
        self._blocks = []
        return Effects(rows=rows, deltas=[self._all()], replaces=True)

    def _let_go(
        self,
        now: float,
        came: WaitingRows | None = None,
        sources: dict[str, _Source] | None = None,
    ) -> Effects:
        """Return the rows to emit now, `came` included."""
        waited = len(self._blocks)
        if came is not None:
            self._blocks.append(came)
        moment = self._passed(now)
        held_back = came if came is None or moment is None else came.since(moment)
        released = [] if moment is None else self._release_before(moment)
        if not sources and not released:
            return Effects()
        rows = list(merged(released))
        self._deltas += 1
        self._rows_kept += 0 if held_back is None else len(held_back.times)
        left = sum(len(block.times) for block in self._blocks)
        if self._deltas > _MOST_DELTAS or self._rows_kept > 2 * left + _FEWEST_ROWS:
            return Effects(rows=rows, deltas=[self._all()], replaces=True)
        change = _State(sources or {}, moment if waited else None, _packed([held_back]))
        return Effects(rows=rows, deltas=[_delta(change)])

    def _passed(self, now: float) -> int | None:
        """Return the event time before which rows need not wait; None if all must."""
        self._mend_clock(now)
        heard = [s.newest for s in self._sources.values() if now - s.heard < self._wait]
        late = [b.newest + 1 for b in self._blocks if now - b.came >= self._wait]
        moments = [*late, *([min(heard)] if heard else [])]
        return max(moments, default=None)

    def _release_before(self, moment: int) -> list[WaitingRows]:
        released = [part for block in self._blocks if (part := block.before(moment)) is not None]
        self._blocks = [rest for block in self._blocks if (rest := block.since(moment)) is not None]
        return released

    def _mend_clock(self, now: float) -> None:
        """Limit arrivals to now: a clock set back must not extend waits."""
        if any(source.heard > now for source in self._sources.values()):
            self._sources = {
                name: _Source(source.newest, min(source.heard, now))
                for name, source in self._sources.items()
            }
            self._blocks = [replace(b, came=min(b.came, now)) for b in self._blocks]

    def _all(self) -> Delta:
        """Return the full state, which replaces the old one."""
        self._deltas = 1
        self._rows_kept = sum(len(block.times) for block in self._blocks)
        return _delta(_State(self._sources, None, _packed(self._blocks)))


def _with_columns(batch: pa.RecordBatch, columns: pa.Schema | None) -> pa.RecordBatch:
    """Return n rows with some columns in place of their own; absent values where they have none."""
    if columns is None or batch.schema.equals(columns):
        return batch
    arrays = []
    for field in columns:
        if field.name in batch.schema.names:
            arrays.append(batch.column(field.name))
        elif field.type == pa.float64():
            arrays.append(pa.array(np.full(len(batch), np.nan)))
        else:
            arrays.append(pa.nulls(len(batch), field.type))
    described = columns.with_metadata(batch.schema.metadata)
    return pa.RecordBatch.from_arrays(arrays, schema=described)


def _packed(blocks: Sequence[WaitingRows | None]) -> list[tuple[float, bytes]]:
    return [(block.came, rows_to_bytes(block.batch)) for block in blocks if block is not None]


def _delta(change: _State) -> Delta:
    return Delta(msgspec.msgpack.encode(change))
