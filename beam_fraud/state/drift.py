"""Count the scored rows of a stream for drift, each once, also after failures and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import pyarrow as pa

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.drift import LETTERS_KEY, Counter
from beam_fraud.monitoring.drift import counts
from beam_fraud.monitoring.drift.arrivals import Arrivals
from beam_fraud.monitoring.drift.counts import ModelCounts
from beam_fraud.monitoring.drift.summary import Summary
from beam_fraud.schema.duration import DAY
from beam_fraud.state.shard import Delta, Effects

#: Names of the steps: rows, and dead letters.
DRIFT, DRIFT_LETTERS = "drift", "drift of dead letters"
#: Days with rows that the state keeps, the last ones.
KEPT_DAYS = 400
#: Rows that are counted at once: few calls of NumPy for many rows.
_TOGETHER = 50_000
#: Before every day.
EVERY_DAY = -(10**6)


#: Type: return what counts the rows of a batch.
CounterOf = Callable[[pa.RecordBatch], Counter]


class Uncounted:
    """Scored rows with the inputs of their decisions, which wait to be counted together.

    Args:
      counter_of: returns what counts the rows of a batch.
    """

    def __init__(self, counter_of: CounterOf) -> None:
        self._counter_of = counter_of
        self._pending: list[tuple[Counter, pa.RecordBatch]] = []
        #: Number of rows.
        self.rows = 0

    @property
    def enough(self) -> bool:
        """Return whether they are worth a count of their own."""
        return self.rows >= _TOGETHER

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        if len(batch):
            self._pending.append((self._counter_of(batch), batch))
            self.rows += len(batch)

    def joined(self) -> Iterator[tuple[Counter, pa.RecordBatch]]:
        """Yield all rows by model in large batches; they wait no more."""
        pending, self._pending, self.rows = self._pending, [], 0
        for (_, schema), alike in groupby(pending, lambda one: (id(one[0]), one[1].schema)):
            counters, batches = zip(*alike, strict=True)
            # Texts and lists that are not counted are not copied.
            rows = pa.Table.from_batches(batches, schema).select(counters[0].counted(schema))
            for batch in rows.combine_chunks().to_batches():
                yield counters[0], batch


class DriftShard:
    """Counts rows by day, segment and bin (`monitoring.drift`); it emits none.

    Rows are counted at the end of a bundle, or when enough wait: for hosts that call `tick` before
    each commit. So the committed counts are those of the committed rows.

    Args:
      counter_of: returns what counts the rows of a batch; None if rows come counted (`keep`).
    """

    def __init__(self, counter_of: CounterOf | None) -> None:
        self._uncounted = None if counter_of is None else Uncounted(counter_of)
        #: Keys of layouts that the state describes, and its days.
        self._described, self._days = set[str](), set[int]()
        #: What later rows are compared with, for their lateness.
        self.arrivals = Arrivals.merged([])

    @property
    def needed_from(self) -> int:
        """Begin of the oldest day that is kept."""
        return self._since * DAY

    @property
    def _since(self) -> int:
        return sorted(self._days)[-KEPT_DAYS] if len(self._days) > KEPT_DAYS else EVERY_DAY

    @property
    def waiting(self) -> bool:
        """Return whether there are rows to count."""
        return self._uncounted is not None and self._uncounted.rows > 0

    def restore(self, deltas: Sequence[bytes]) -> Effects:
        """Restore which layouts and days there are.

        Raises:
          FraudError: the state is damaged.
        """
        with refusing_damage():
            self._described = set(counts.layouts_in(deltas))
            self._days = set(counts.days_in(deltas))
            self.arrivals = counts.arrivals_in(deltas)
        return Effects()

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Take rows of `stages.SCORED` with the inputs of their decisions, to be counted soon."""
        assert self._uncounted is not None, "the rows come counted"
        self._uncounted.add(batch)
        return self._count() if self._uncounted.enough else Effects()

    def tick(self, now: float) -> Effects:
        """Count what waits."""
        return self._count()

    def finish(self) -> Effects:
        """Count what waits."""
        return self._count()

    def merge(self, deltas: Sequence[bytes]) -> bytes:
        """Add counts; drop days that are not kept."""
        with refusing_damage():
            return counts.merged(deltas, self._since)

    def keep(self, counted: ModelCounts) -> Effects:
        """Return the change of the state by rows that are counted."""
        key, summary = counted.key, counted.summary
        if not len(summary.days):
            return Effects()
        deltas = list[Delta]()
        if key not in self._described:
            self._described.add(key)
            deltas.append(Delta(counts.layout_piece(key, counted.model_id, summary.layout)))
        self._days.update(summary.days.tolist())
        # A day of the schema's time zone may end later than that of UTC.
        newest = (int(summary.days[-1]) + 2) * DAY
        return Effects(deltas=[*deltas, Delta(counts.rows_piece(key, summary), newest)])

    def keep_letters(self, summary: Summary) -> Effects:
        """Return the change of the state by dead letters that are counted by `LETTERS`."""
        return self.keep(ModelCounts(LETTERS_KEY, counts.NO_MODEL, summary))

    def keep_arrivals(self, arrivals: Arrivals) -> Effects:
        """Return the change of the state by what later rows are compared with."""
        before, self.arrivals = self.arrivals, arrivals
        if before == arrivals or not len(arrivals.minutes):
            return Effects()
        newest = (int(arrivals.newest[-1]) // DAY + 2) * DAY
        return Effects(deltas=[Delta(counts.arrivals_piece(arrivals), newest)])

    def _count(self) -> Effects:
        deltas = list[Delta]()
        for counter, rows in () if self._uncounted is None else self._uncounted.joined():
            counted, arrivals = counter.later(rows, self.arrivals)
            for one in counted:
                deltas += self.keep(one).deltas
            deltas += self.keep_arrivals(arrivals).deltas
        return Effects(deltas=deltas)


class LetterShard(DriftShard):
    """Counts dead letters by day and reason; it emits none.

    Args:
      count: counts n rows of `stages.DEAD_LETTER` by `models.drift.LETTERS`.
    """

    def __init__(self, count: Callable[[pa.RecordBatch], Summary]) -> None:
        super().__init__(None)
        self._count_letters = count

    def take(self, batch: pa.RecordBatch) -> Effects:
        """Count dead letters."""
        return self.keep_letters(self._count_letters(batch))


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Raise a FraudError of the stream's state for counts that are damaged."""
    try:
        yield
    except ValueError:
        raise FraudError(
            "the stream's state: the counts of its monitor are damaged; start again with another "
            "--out",
            Code.STATE_UNREADABLE,
        ) from None
