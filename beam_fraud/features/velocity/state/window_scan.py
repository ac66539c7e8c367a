"""Sum the totals of many rows' windows over the runs of earlier rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.fixed_point import Units
from beam_fraud.features.velocity.large_sums import TOPS
from beam_fraud.features.velocity.state.extremes_tree import NO_LEAST, NO_MOST
from beam_fraud.features.velocity.state.key_times import Integers
from beam_fraud.features.velocity.state.row_run import RowRun
from beam_fraud.features.velocity.state.window_plan import Ages, SpecPlan, WindowPlan
from beam_fraud.features.velocity.window_totals import NEVER, WindowTotals

_Sum = TypeVar("_Sum", np.int64, np.uint64)

#: Rows of windows processed together, to bound memory.
_TOGETHER = 1 << 20


class DistinctMerchants:
    """Ranges of rows in runs, for n windows per end time.

    A merchant is in a window if its latest row before the end is, so windows with later starts cost
    little more. Sums do not help: a merchant may be in several runs.
    """

    def __init__(self) -> None:
        self._ranges: list[tuple[RowRun, Integers, Integers]] = []

    def add(self, run: RowRun, first: Integers, end: Integers) -> None:
        """Add the rows from `first` to before `end` (int64[n] each) of a run."""
        self._ranges.append((run, first, end))

    def counts(self, starts: Integers) -> Integers:
        """Return the number of distinct merchants in each window.

        Args:
          starts: int64[windows, n], times after which the windows start.

        Returns:
          int64[windows, n].
        """
        counts = np.zeros_like(starts)
        if not self._ranges:
            return counts
        sizes = np.sum([end - first for _, first, end in self._ranges], axis=0)
        ends = np.cumsum(sizes)
        left = 0
        while left < len(sizes):
            done = ends[left] - sizes[left]
            right = max(left + 1, int(ends.searchsorted(done + _TOGETHER, "right")))
            counts[:, left:right] = self._some(slice(left, right), starts[:, left:right])
            left = right
        return counts

    def _some(self, queries: slice, starts: Integers) -> Integers:
        parts = [_rows(run, first[queries], end[queries]) for run, first, end in self._ranges]
        query, merchant, time = (np.concatenate(column) for column in zip(*parts, strict=True))
        names, merchant = np.unique(merchant, return_inverse=True)
        pair = query * len(names) + merchant
        order = np.argsort(pair, kind="stable")
        pair = pair[order]
        firsts = np.flatnonzero(np.concatenate(([True], pair[1:] != pair[:-1]))[: len(pair)])
        query = query[order[firsts]]
        latest = np.maximum.reduceat(time[order], firsts) if len(firsts) else time
        width = starts.shape[1]
        return np.array(
            [np.bincount(query[latest > start[query]], minlength=width) for start in starts]
        )


def _rows(run: RowRun, first: Integers, end: Integers) -> tuple[Integers, Hashes, Integers]:
    """Return range number, merchant and time of all rows of the ranges with a merchant."""
    assert run.merchant is not None
    sizes = end - first
    query = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(query)) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
    merchant = run.merchant[rows]
    named = merchant != 0
    return query[named], merchant[named], run.keyed.times(rows[named])


@dataclass(frozen=True)
class Arrivals:
    """Rows that are in no run, each for a row that sees it, which is one of n."""

    #: int64[k], ascending: the row that sees it; each of the n is there.
    row: Integers
    #: int64[k], microseconds.
    time: Integers
    #: int64[k], units.
    amount: Units
    #: bool[k]: whether it is the row itself.
    own: npt.NDArray[np.bool_]


class WindowScan:
    """The windows of n rows, and their totals over the runs scanned so far."""

    def __init__(self, plan: WindowPlan, slots: Integers, times: Integers, *, large: bool) -> None:
        """Start with empty windows.

        Args:
          plan: the windows.
          slots: int64[n], slots of the rows' keys.
          times: int64[n].
          large: whether sums may exceed 64 bits.
        """
        self._plan, self._slots = plan, slots
        #: int64[ages, n], times of windows' starts and ends; and the latest of each age.
        self._moments = times - plan.ages
        self._latest = int(times.max()) - plan.ages[:, 0]
        shape, n = self._moments.shape, len(times)
        self._count = np.zeros(shape, dtype=np.int64)
        self._amount = np.zeros(shape, dtype=np.int64) if plan.amounts else None
        #: Both limbs of the squares.
        self._squares = np.zeros((2, *shape), dtype=np.uint64) if plan.squares else None
        #: Sums of the upper bits of amounts and limbs.
        self._tops = np.zeros((len(TOPS), *shape), dtype=np.int64) if large else None
        #: Smallest and largest amounts.
        self._extremes: dict[Ages, tuple[Units, Units]] = {
            ages: (np.full(n, NO_LEAST), np.full(n, NO_MOST)) for ages in plan.extremes
        }
        #: Time of the previous row, by horizon.
        self._last = {horizon: np.full(n, NEVER) for horizon in plan.last}
        self._merchants = {ages: DistinctMerchants() for ages in plan.merchants}

    def add(
        self,
        run: RowRun,
        arrived: Integers | None = None,
        own: Integers | None = None,
        slots: Integers | None = None,
    ) -> None:
        """Add a run's rows to the totals of the windows.

        Args:
          run: a run of rows that may be in the windows.
          arrived: int64[n], number of the run's rows, of the row's slot and earlier ones, that had
            arrived with each row; None for all.
          own: int64[n], 1 for a row that is itself in the run, else 0; None for none.
          slots: int64[n], slots of the rows' keys in this run, -1 for unknown ones; None if all
            runs share slots.
        """
        positions = self._positions(run, self._slots if slots is None else slots)
        if positions is None:
            return
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
        if self._tops is not None:
            self._tops += run.tops[:, positions]
        place = self._plan.place
        for (start, end), (least, most) in self._extremes.items():
            assert run.extremes is not None
            assert run.prefix is not None
            first, stop = positions[place[start]], positions[place[end]]
            run_least, run_most = run.extremes.of_ranges(first, stop, run.prefix)
            np.minimum(least, run_least, out=least)
            np.maximum(most, run_most, out=most)
        for horizon, last in self._last.items():
            before = positions[place[0]] if own is None else positions[place[0]] - own
            known = np.flatnonzero(before > positions[place[horizon]])
            last[known] = np.maximum(last[known], run.keyed.times(before[known] - 1))
        for (start, end), merchants in self._merchants.items():
            merchants.add(run, positions[place[start]], positions[place[end]])

    def add_arrivals(self, arrivals: Arrivals) -> None:
        """Add rows that are in no run to the totals of the windows, but for distinct merchants."""
        seen = arrivals.time <= self._moments[:, arrivals.row]
        # Each row sees at least itself.
        starts = arrivals.row.searchsorted(np.arange(len(self._slots)))
        self._count += np.add.reduceat(seen, starts, axis=1, dtype=np.int64)
        if self._amount is not None:
            self._amount += np.add.reduceat(seen * arrivals.amount, starts, axis=1)
        place = self._plan.place
        for horizon, last in self._last.items():
            before = seen[place[0]] & ~seen[place[horizon]] & ~arrivals.own
            latest = np.maximum.reduceat(np.where(before, arrivals.time, NEVER), starts)
            np.maximum(last, latest, out=last)

    def _positions(self, run: RowRun, slots: Integers) -> Integers | None:
        """Return positions of all times in a run, int64[ages, n]; None if no window reaches it."""
        # Ages ascend: from one on, all times are before the run's first row.
        reaching = int(np.count_nonzero(self._latest >= run.first))
        if not reaching:
            return None
        if reaching >= len(self._latest) - 1:
            return run.keyed.positions(slots, self._moments)
        positions = np.empty_like(self._moments)
        positions[: reaching + 1] = run.keyed.positions(slots, self._moments[: reaching + 1])
        positions[reaching + 1 :] = positions[reaching]
        return positions

    def totals(self, plan: SpecPlan) -> WindowTotals:
        """Return the totals of all windows of a definition, without known frauds.

        Returns:
          Totals of windows * n windows: those of all rows for the first window come first.
        """
        different = None
        if plan.spec.needs_merchants:
            merchants = self._merchants[plan.horizon, plan.windows[0][1]]
            different = merchants.counts(self._moments[plan.starts]).ravel()
        amount = high = low = least = most = tops = None
        if self._amount is not None:
            amount = self._between(self._amount, plan)
        if self._squares is not None:
            high, low = (self._between(limbs, plan) for limbs in self._squares)
        if plan.spec.needs_extremes:
            least, most = (
                np.concatenate(extremes)
                for extremes in zip(*(self._extremes[ages] for ages in plan.windows), strict=True)
            )
        if self._tops is not None:
            tops = np.stack([self._between(top, plan) for top in self._tops])
        count = self._between(self._count, plan)
        return WindowTotals(count, amount, high, low, least, most, different, tops=tops)

    def _between(self, sums: npt.NDArray[_Sum], plan: SpecPlan) -> npt.NDArray[_Sum]:
        """Return what sums up to the windows' ends, [ages, n], exceed those up to their starts."""
        between: npt.NDArray[_Sum] = (sums[plan.ends] - sums[plan.starts]).ravel()
        return between

    def last(self, plan: SpecPlan) -> Integers:
        """Return times of the keys' previous rows, int64[n], `NEVER` without one in sight."""
        return self._last[plan.horizon]
