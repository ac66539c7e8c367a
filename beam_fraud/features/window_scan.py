"""Totals of the windows of many rows, added up over the runs in which earlier rows lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beam_fraud.features.distinct_merchants import DistinctMerchants
from beam_fraud.features.extremes_tree import NO_LEAST, NO_MOST
from beam_fraud.features.fixed_point import Units
from beam_fraud.features.key_times import Integers
from beam_fraud.features.row_run import RowRun
from beam_fraud.features.window_totals import NEVER, WindowTotals
from beam_fraud.velocity import Velocity


class WindowScan:
    """Windows that end at the times of n rows, and what the runs scanned so far hold of them."""

    def __init__(self, specs: Sequence[Velocity], slots: Integers, times: Integers) -> None:
        """Begin with nothing in the windows.

        Args:
          specs: whose windows.
          slots: int64[n], of the rows' keys.
          times: int64[n].
        """
        self._slots, self._times = slots, times
        ages = {0} if any(spec.needs_last for spec in specs) else set()
        for spec in specs:
            delay = spec.delay_microseconds
            ages |= {delay, spec.horizon, *(delay + w for w in spec.window_microseconds)}
        #: Place of each age, microseconds before now, at which a window starts or ends.
        self._place = {age: place for place, age in enumerate(sorted(ages))}
        #: int64[ages, n].
        self._moments = times - np.array(list(self._place), dtype=np.int64)[:, None]
        shape = self._moments.shape
        self._count = np.zeros(shape, dtype=np.int64)
        sums = any(spec.needs_sums for spec in specs)
        self._amount = np.zeros(shape, dtype=np.int64) if sums else None
        squares = any(spec.needs_squares for spec in specs)
        #: Both limbs of the squares.
        self._squares = np.zeros((2, *shape), dtype=np.uint64) if squares else None
        n = len(times)
        #: By the ages at which a window starts and ends: smallest and largest amounts.
        self._extremes: dict[tuple[int, int], tuple[Units, Units]] = {
            ages: (np.full(n, NO_LEAST), np.full(n, NO_MOST))
            for spec in specs
            if spec.needs_extremes
            for ages in windows_of(spec)
        }
        #: By horizon: the time of the previous row.
        self._last = {spec.horizon: np.full(n, NEVER) for spec in specs if spec.needs_last}
        #: By delay.
        self._merchants = {
            (spec.delay_microseconds, spec.horizon): DistinctMerchants()
            for spec in specs
            if spec.needs_merchants
        }

    def add(
        self, run: RowRun, arrived: Integers | None = None, own: Integers | None = None
    ) -> None:
        """Count what a run holds of the windows.

        Args:
          run: rows that may be in the windows.
          arrived: int64[n], how many rows of the run have come up to each row's arrival, among
            those of its slot and before; None if all had.
          own: int64[n], 1 for a row that is itself in the run, else 0; None if none is.
        """
        positions = run.keyed.positions(self._slots, self._moments)
        if arrived is not None:
            np.minimum(positions, arrived, out=positions)
        self._count += positions
        if self._amount is not None:
            assert run.prefix is not None
            self._amount += run.prefix[positions]
        if self._squares is not None:
            assert run.squares is not None
            assert run.prefix is not None
            self._squares += run.squares.at(positions, run.prefix)
        for (start, end), (least, most) in self._extremes.items():
            assert run.extremes is not None
            assert run.prefix is not None
            first, stop = positions[self._place[start]], positions[self._place[end]]
            run_least, run_most = run.extremes.of_ranges(first, stop, run.prefix)
            np.minimum(least, run_least, out=least)
            np.maximum(most, run_most, out=most)
        for horizon, last in self._last.items():
            before = positions[self._place[0]] if own is None else positions[self._place[0]] - own
            known = np.flatnonzero(before > positions[self._place[horizon]])
            last[known] = np.maximum(last[known], run.keyed.times(before[known] - 1))
        for (delay, horizon), merchants in self._merchants.items():
            merchants.add(run, positions[self._place[horizon]], positions[self._place[delay]])

    def totals(self, spec: Velocity) -> list[WindowTotals]:
        """Totals of each window of a definition, known frauds aside."""
        end = self._place[spec.delay_microseconds]
        starts = [self._place[start] for start, _ in windows_of(spec)]
        distinct: list[Integers | None] = [None] * len(starts)
        if spec.needs_merchants:
            merchants = self._merchants[spec.delay_microseconds, spec.horizon]
            distinct = list(merchants.counts(self._moments[starts]))
        totals = []
        for start, ages, different in zip(starts, windows_of(spec), distinct, strict=True):
            least, most = self._extremes.get(ages, (None, None))
            amount = None if self._amount is None else self._amount[end] - self._amount[start]
            high, low = (
                (None, None)
                if self._squares is None
                else self._squares[:, end] - self._squares[:, start]
            )
            count = self._count[end] - self._count[start]
            totals.append(WindowTotals(count, amount, high, low, least, most, different))
        return totals

    def last(self, spec: Velocity) -> Integers:
        """Times of the keys' previous rows, int64[n], `NEVER` where there is none in sight."""
        return self._last[spec.horizon]


def windows_of(spec: Velocity) -> list[tuple[int, int]]:
    """Ages in microseconds at which each window of a definition starts and ends."""
    delay = spec.delay_microseconds
    return [(delay + length, delay) for length in spec.window_microseconds]
