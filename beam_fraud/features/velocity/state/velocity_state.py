"""Velocity features of a stream, as of the arrival of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from beam_fraud.features.event_clock import ClockState, EventClock
from beam_fraud.features.velocity.key_rows import Frauds, KeyRows
from beam_fraud.features.velocity.large_sums import Load
from beam_fraud.features.velocity.state.key_times import Frame, Integers
from beam_fraud.features.velocity.state.known_frauds import KnownFrauds
from beam_fraud.features.velocity.state.row_run import RowRun
from beam_fraud.features.velocity.state.row_runs import RowRuns
from beam_fraud.features.velocity.state.single_rows import (
    MOST,
    SINGLE,
    SingleRows,
    SingleScan,
    load_of,
)
from beam_fraud.features.velocity.state.window_plan import WindowPlan
from beam_fraud.features.velocity.state.window_scan import WindowScan
from beam_fraud.features.velocity.window_totals import (
    Feature,
    derive,
    refuse_too_many,
    seconds_since,
)
from beam_fraud.schema.velocity import Velocity, by_grouping

#: Single rows that `settle` puts into a run: fewer than make the next row do it.
_SETTLED = 3 * MOST // 4
#: Rows up to which a batch waits as single rows do, rather than become a run.
_FEW = 128
#: Maximum of chains; rows in random order make more, which the caller must avoid.
MOST_CHAINS = 16


def arrival_chains(numbers: Integers, frame: Frame) -> tuple[Integers, list[Integers]]:
    """Split rows into chains; rows in time order make one.

    A chain holds, per key, the rows that are not before any earlier row outside earlier chains. So
    what a row sees of a chain is the start of its key's part, by time as by arrival.

    Args:
      numbers: int64[n], `Frame.numbers` of rows in order of arrival.
      frame: frame of the numbers.

    Returns:
      int64[n]: all rows, ordered by slot, time and arrival; and the rows of each chain in that
      order, int64[m] each. Incomplete if there are more than `MOST_CHAINS`.

    Example:
      >>> frame = Frame.around(0, 15)
      >>> slots, times = np.array([1, 0, 1, 1]), np.array([5, 0, 4, 7])
      >>> order, chains = arrival_chains(frame.numbers(slots, times), frame)
      >>> order.tolist(), [chain.tolist() for chain in chains]
      ([1, 2, 0, 3], [[1, 0, 3], [2]])
    """
    order = np.argsort(numbers, kind="stable")
    slots = numbers[order] >> frame.bits
    if not ((order[1:] < order[:-1]) & (slots[1:] == slots[:-1])).any():
        return order, [order]
    by_arrival = np.argsort(numbers >> frame.bits, kind="stable")
    return order, list(islice(_chains(numbers, by_arrival), MOST_CHAINS + 1))


def _chains(numbers: Integers, rows: Integers) -> Iterator[Integers]:
    """Yield the chains of rows sorted by slot and arrival."""
    while len(rows):
        along = numbers[rows]
        # The slot is the high part, so a maximum never crosses into the next slot.
        in_chain = along == np.maximum.accumulate(along)
        yield rows[in_chain]
        rows = rows[~in_chain]


def seen_of_chain(chain: Integers, slots: Integers, rows: Integers) -> Integers:
    """Return the number of a chain's rows that arrived up to each row, up to its key.

    Args:
      chain: int64[m] of `arrival_chains`.
      slots: int64[n], slots of all rows in order of arrival.
      rows: int64[n], the requested rows.

    Returns:
      int64[n].
    """
    arrivals = slots * len(slots) + np.arange(len(slots))
    return arrivals[chain].searchsorted(arrivals[rows], "right")


class KeyWindows:
    """The windows of the rows of one key.

    Earlier rows are in `RowRuns`, sorted by key and time with prefix sums: a window is the
    difference of two positions in each run. Each batch becomes a run.

    A row sees the rows that arrived before it. A row that is late by at most `lateness` sees all of
    them in its windows; a later one sees the remaining rows. Lateness refers to the event clock,
    which the bulk of the rows moves: a few rows far ahead make no others late.
    """

    def __init__(self, specs: Sequence[Velocity], lateness: int, clock: EventClock) -> None:
        """Start empty.

        Args:
          specs: definitions that share a key, whose windows hold all of its rows.
          lateness: microseconds that a row may be late and still see all its windows.
          clock: the event clock.
        """
        self.specs = tuple(specs)
        self._plan = WindowPlan.of(self.specs)
        self._runs = RowRuns(self._plan, self._plan.horizon + lateness, clock)
        delay = self._plan.fraud_delay
        self._frauds = None if delay is None else KnownFrauds(delay)
        self._single = SingleRows()
        #: Whether single rows have a way of their own.
        self._alone = all(SINGLE.issuperset(spec.aggregates) for spec in self.specs)

    @property
    def rows(self) -> int:
        """Number of stored rows."""
        return len(self._runs) + len(self._single)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without the few rows that are in no run yet."""
        return self._runs.nbytes + (0 if self._frauds is None else self._frauds.nbytes)

    @property
    def needed_from(self) -> int:
        """Event time (microseconds) from which rows and frauds still matter."""
        return self._runs.origin

    @property
    def clock(self) -> EventClock:
        """The event clock."""
        return self._runs.clock

    def update(
        self, rows: KeyRows, frauds: Frauds | None = None, *, keep: bool = True
    ) -> dict[str, Feature]:
        """Add rows and return their features as of their arrival.

        Args:
          rows: n rows in order of arrival.
          frauds: frauds that become known with them; before the first row if `row` is None.
          keep: whether the windows keep the rows; if not, n is 1.

        Returns:
          All features by name, in the order of the definitions, float64[n].

        Raises:
          FraudError: there are too many keys, or a window holds more rows than sums are exact for.
        """
        if not len(rows):
            if frauds is not None:
                self.label(frauds)
            return {name: np.zeros(0) for spec in self.specs for name in spec.names}
        if len(rows) == 1 and not (frauds is not None and len(frauds)):
            values = int(rows.key[0]), int(rows.time[0]), int(rows.amount[0])
            single = self._update_single(*values, keep=keep)
            if single is not None:
                return {name: np.array([feature]) for name, feature in single.items()}
        elif keep and len(rows) <= _FEW:
            few = self._update_few(rows, frauds)
            if few is not None:
                return few
        self._settle()
        if not self._runs.fits(rows):
            return self._halves(rows, frauds, len(rows) // 2)
        cut = self._cut(rows, frauds)
        if cut:
            return self._halves(rows, frauds, cut)
        slots, frame = self._runs.slots(rows.key), self._runs.frame(rows)
        numbers = frame.numbers(slots, rows.time)
        order, chains = arrival_chains(numbers, frame)
        if len(chains) > MOST_CHAINS:
            return self._halves(rows, frauds, len(rows) // 2)
        if frauds is not None:
            self.label(frauds)
        own_run = self._runs.run(rows, numbers, frame, order)
        large = not (self._runs.load + own_run.load).fits
        scan = WindowScan(self._plan, slots[order], rows.time[order], large=large)
        for run in self._runs:
            scan.add(run)
        self._runs.ahead.scan(scan, rows.key[order], int(rows.time.max()))
        if len(chains) == 1:
            scan.add(own_run, np.arange(1, len(order) + 1), np.ones(len(order), dtype=np.int64))
        else:
            for chain in chains:
                own = np.zeros(len(order), dtype=np.int64)
                own[chain] = 1
                chained = self._runs.run(rows, numbers, frame, chain)
                scan.add(chained, seen_of_chain(chain, slots, order), own[order])
        sorted_features = self._features(scan, rows.take(order))
        if keep:
            self._append(own_run, rows)
        arrival = np.empty_like(order)
        arrival[order] = np.arange(len(order))
        return {name: feature[arrival] for name, feature in sorted_features.items()}

    def add(self, rows: KeyRows, frauds: Frauds | None = None) -> None:
        """Add rows in any order without features, for example from an archive.

        Args:
          rows: n rows.
          frauds: frauds that become known with them.

        Raises:
          FraudError: there are too many keys.
        """
        if frauds is not None:
            self.label(frauds)
        if not len(rows):
            return
        self._settle()
        self._add(rows)

    def _add(self, rows: KeyRows) -> None:
        if not self._runs.fits(rows):
            for part, _ in _divided(rows, None, len(rows) // 2):
                self._add(part)
            return
        slots, frame = self._runs.slots(rows.key), self._runs.frame(rows)
        numbers = frame.numbers(slots, rows.time)
        run = self._runs.run(rows, numbers, frame, np.argsort(numbers, kind="stable"))
        self._append(run, rows)

    def label(self, frauds: Frauds, fraud: npt.NDArray[np.bool_] | None = None) -> None:
        """Add labels, known from now on.

        A transaction labelled twice counts once; one labelled as genuine no longer counts.

        Args:
          frauds: m labels in order of arrival.
          fraud: bool[m], fraud or genuine; None: all frauds.

        Raises:
          FraudError: a genuine label has no transaction id.
        """
        if self._frauds is None:
            return
        seen = frauds.time >= self._runs.origin
        if not seen.all():
            frauds, fraud = frauds.take(seen), None if fraud is None else fraud[seen]
        self._frauds.label(frauds, fraud)

    def expire(self) -> None:
        """Expire rows that no window reaches, and merge all runs."""
        self._settle()
        self._runs.expire()
        self._forget()

    def update_one(self, key: int, time: int, amount: int) -> dict[str, float]:
        """Return the features of one row, as `update` does, and add it.

        Args:
          key: hash of the key.
          time: event time, microseconds.
          amount: units of `fixed_point`.
        """
        features = self._update_single(key, time, amount, keep=True)
        if features is not None:
            return features
        rows = KeyRows(
            np.array([key], dtype=np.uint64), np.array([time]), np.array([amount], dtype=np.int64)
        )
        return {name: float(feature[0]) for name, feature in self.update(rows).items()}

    def _update_single(
        self, key: int, time: int, amount: int, *, keep: bool
    ) -> dict[str, float] | None:
        """Add one row; None if it needs the general way."""
        runs, single = self._runs, self._single
        load = single.load + load_of(amount)
        if not (self._alone and len(single) < MOST and runs.takes(time, load)):
            return None
        scan = SingleScan(self._plan, time)
        slot = runs.slot(key)
        if slot is not None:
            scan.add_runs(runs, slot)
        before = single.of(key)
        scan.add_before(at for at, _ in before)
        scan.add([*before, (time, amount)])
        frauds = [
            self._frauds.counts_of(key, time, plan.windows)
            if plan.spec.needs_labels and self._frauds is not None
            else ()
            for plan in self._plan.specs
        ]
        if keep:
            single.add(key, time, amount, load)
            # Not only when they become a run: the clock would stand still until then.
            runs.clock.observe_one(time)
        return scan.features(amount, frauds)

    def _update_few(self, rows: KeyRows, frauds: Frauds | None) -> dict[str, Feature] | None:
        """Add a few rows, which wait as single ones do; None if they need the general way."""
        runs, single = self._runs, self._single
        if not self._alone or len(single) + len(rows) > MOST or self._cut(rows, frauds):
            return None
        load = Load.of(rows.amount)
        if not runs.takes_all(rows.time, single.load + load):
            return None
        if frauds is not None:
            self.label(frauds)
        scan = WindowScan(self._plan, runs.known_slots(rows.key), rows.time, large=False)
        for run in runs:
            scan.add(run)
        scan.add_arrivals(single.up_to(rows))
        features = self._features(scan, rows)
        single.extend(rows, load)
        runs.clock.observe(rows.time)
        return features

    def settle(self) -> None:
        """Do what the next single row may have to do first; between two rows.

        Raises:
          FraudError: there are too many keys; the next row raises it, too.
        """
        if len(self._single) >= _SETTLED:
            self._settle()

    def _settle(self) -> None:
        """Put the rows that arrived one by one into a run."""
        if len(self._single):
            if self._runs.append_observed(self._single.joined()):
                self._forget()
            self._single = SingleRows()

    def _cut(self, rows: KeyRows, frauds: Frauds | None) -> int:
        """Return the row before which a batch must be divided, or 0.

        A fraud that is due before an earlier row of its batch must not be known to that row. That
        happens if the fraud's row comes later than the delay.
        """
        if (
            frauds is not None
            and frauds.row is not None
            and len(frauds)
            and self._frauds is not None
        ):
            due = self._frauds.due(frauds)
            if due.min() <= rows.time.max():
                before = np.maximum.accumulate(rows.time)[np.maximum(frauds.row - 1, 0)]
                early = frauds.row[(frauds.row > 0) & (due <= before)]
                if len(early):
                    # In the middle, because each half is divided again.
                    return int(np.sort(early)[len(early) // 2])
        return 0

    def _halves(self, rows: KeyRows, frauds: Frauds | None, cut: int) -> dict[str, Feature]:
        before, after = _divided(rows, frauds, cut)
        first, second = self.update(*before), self.update(*after)
        return {name: np.concatenate((first[name], second[name])) for name in first}

    def _features(self, scan: WindowScan, rows: KeyRows) -> dict[str, Feature]:
        """Return the features of a scan's rows."""
        features = dict[str, Feature]()
        for plan in self._plan.specs:
            totals, windows = scan.totals(plan), plan.spec.windows
            if plan.spec.needs_labels and self._frauds is not None:
                known = self._frauds.counts(rows.key, rows.time, plan.windows)
                totals = replace(totals, frauds=np.concatenate(known))
            if totals.tops is not None:
                counts = totals.count.reshape(len(windows), -1)
                for length, count in zip(windows, counts, strict=True):
                    refuse_too_many(replace(totals, count=count), plan.spec, length)
            # An aggregate of all windows at once: for few rows, each call counts.
            amounts = np.tile(rows.amount, len(windows))
            computed = {
                aggregate: derive(aggregate, totals, amounts).reshape(len(windows), -1)
                for aggregate in plan.spec.aggregates
                if aggregate != "seconds_since_last"
            }
            for window, named in enumerate(plan.features):
                for name, aggregate in named:
                    if aggregate == "seconds_since_last":
                        features[name] = seconds_since(rows.time, scan.last(plan))
                    else:
                        features[name] = computed[aggregate][window]
        return features

    def _append(self, run: RowRun, rows: KeyRows) -> None:
        if self._runs.append(run, rows):
            self._forget()

    def _forget(self) -> None:
        if self._frauds is not None:
            self._frauds.forget(self._runs.origin - 1)


class VelocityState:
    """The state of the velocity features of one key.

    Amounts by currency have windows of their own, over the same rows.

    Example:
      >>> state = VelocityState([Velocity(("account_id",), ("1d",), ("count", "sum"))])
      >>> rows = KeyRows(
      ...     np.array([7, 7], dtype=np.uint64), np.array([0, 5]), np.array([10_000, 25_000])
      ... )
      >>> {name: feature.tolist() for name, feature in state.update(rows).items()}
      {'account_count_1d': [1.0, 2.0], 'account_sum_1d': [1.0, 3.5]}
    """

    def __init__(
        self, specs: Sequence[Velocity], lateness: int = 0, clock: EventClock | None = None
    ) -> None:
        """Start empty.

        Args:
          specs: definitions that share a key.
          lateness: microseconds that a row may be late and still see all its windows.
          clock: the event clock; None for a new one.
        """
        self.specs = tuple(specs)
        self._by_key, self._by_currency = (
            # Each observes all rows.
            KeyWindows(part, lateness, EventClock() if clock is None else deepcopy(clock))
            if part
            else None
            for part in by_grouping(self.specs)
        )
        self._all = [part for part in (self._by_key, self._by_currency) if part is not None]

    @property
    def rows(self) -> int:
        """Number of stored rows, each once."""
        return max(part.rows for part in self._all)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(part.nbytes for part in self._all)

    @property
    def needed_from(self) -> int:
        """Event time (microseconds) from which rows and frauds still matter."""
        first = self._all[0].needed_from
        return first if len(self._all) == 1 else min(first, self._all[1].needed_from)

    @property
    def clock(self) -> EventClock:
        """The event clock; each part observes all rows."""
        return self._all[0].clock

    @contextmanager
    def resumed(self, clock: ClockState) -> Iterator[None]:
        """Have the clock of a state to which rows are added again that it observed before.

        By the rows that are left, it would be another: those of the bulk expire, and rows ahead of
        it stay until they are most of all.
        """
        with ExitStack() as stopped:
            for part in self._all:
                part.clock.resume(clock)
                stopped.enter_context(part.clock.stopped())
            yield

    def settle(self) -> None:
        """Do what the next single row may have to do first; between two rows.

        Raises:
          FraudError: there are too many keys; the next row raises it, too.
        """
        for part in self._all:
            part.settle()

    def update(
        self, rows: KeyRows, frauds: Frauds | None = None, *, keep: bool = True
    ) -> dict[str, Feature]:
        """Add rows and return their features as of their arrival.

        Args:
          rows: n rows in order of arrival.
          frauds: frauds that become known with them; before the first row if `row` is None.
          keep: whether the windows keep the rows; if not, n is 1.

        Returns:
          All features by name, in the order of the definitions, float64[n].

        Raises:
          FraudError: there are too many keys, or a window holds more rows than sums are exact for.
        """
        features = {} if self._by_key is None else self._by_key.update(rows, frauds, keep=keep)
        if self._by_currency is None:
            return features
        features |= self._by_currency.update(rows.by_currency(), keep=keep)
        return {name: features[name] for spec in self.specs for name in spec.names}

    @property
    def of_values(self) -> bool:
        """Return whether a row consists of key, time and amount alone."""
        return self._by_currency is None and not any(spec.needs_merchants for spec in self.specs)

    def update_one(self, key: int, time: int, amount: int) -> dict[str, float]:
        """Add one row where it is `of_values`, and return its features.

        Args:
          key: hash of the key.
          time: event time, microseconds.
          amount: units of `fixed_point`.

        Returns:
          All features by name, in the order of the definitions.

        Raises:
          FraudError: there are too many keys, or a window holds more rows than sums are exact for.
        """
        assert self._by_key is not None
        return self._by_key.update_one(key, time, amount)

    def add(self, rows: KeyRows, frauds: Frauds | None = None) -> None:
        """Add rows in any order without features, for example from an archive.

        Args:
          rows: n rows.
          frauds: frauds that become known with them.

        Raises:
          FraudError: there are too many keys.
        """
        if self._by_key is not None:
            self._by_key.add(rows, frauds)
        if self._by_currency is not None and len(rows):
            self._by_currency.add(rows.by_currency())

    def label(self, frauds: Frauds, fraud: npt.NDArray[np.bool_] | None = None) -> None:
        """Add labels, known from now on.

        A transaction labelled twice counts once; one labelled as genuine no longer counts.

        Args:
          frauds: m labels in order of arrival.
          fraud: bool[m], fraud or genuine; None: all frauds.

        Raises:
          FraudError: a genuine label has no transaction id.
        """
        if self._by_key is not None:
            self._by_key.label(frauds, fraud)

    def expire(self) -> None:
        """Expire rows that no window reaches, and merge all runs."""
        for part in self._all:
            part.expire()


def _divided(
    rows: KeyRows, frauds: Frauds | None, cut: int
) -> tuple[tuple[KeyRows, Frauds | None], tuple[KeyRows, Frauds | None]]:
    """Divide a batch in two, each fraud with its row."""
    before, after = rows.take(slice(None, cut)), rows.take(slice(cut, None))
    if frauds is None or frauds.row is None:
        return (before, frauds), (after, None)
    early = frauds.row < cut
    late = frauds.take(~early)
    assert late.row is not None
    return (before, frauds.take(early)), (after, replace(late, row=late.row - cut))
