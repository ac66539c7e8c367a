"""Windows of rows that arrive one by one, or a few together.

The arrays of `window_scan` take some 150 calls for a batch, which one row pays alone. Here one row
takes two searches for each run of earlier rows, and its features are computed from integers: a call
of NumPy takes as long as a search, and more where a processor has done other work since the last
row. Rows that came this way, or in a small batch, wait until they are worth a run of their own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np

from beam_fraud.features.velocity.fixed_point import UNITS
from beam_fraud.features.velocity.key_rows import KeyRows
from beam_fraud.features.velocity.large_sums import Load
from beam_fraud.features.velocity.state.key_times import Frame
from beam_fraud.features.velocity.state.row_run import RowRun
from beam_fraud.features.velocity.state.window_plan import WindowPlan
from beam_fraud.features.velocity.state.window_scan import Arrivals
from beam_fraud.schema.duration import SECOND

#: Rows that wait at most: each costs the next rows of its key a comparison.
MOST = 256
_NAN = float("nan")


class SingleRows:
    """Rows that are in no run yet, in order of arrival."""

    def __init__(self) -> None:
        #: Key, time and amount of the first `_count` places.
        self._keys = np.empty(MOST, dtype=np.uint64)
        self._times, self._amounts = np.empty((2, MOST), dtype=np.int64)
        self._count = 0
        #: Time and amount of each row of a key, of the first `_entered` rows.
        self._of_key: dict[int, list[tuple[int, int]]] = {}
        self._entered = 0
        self._load = Load()

    def __len__(self) -> int:
        return self._count

    def of(self, key: int) -> Sequence[tuple[int, int]]:
        """Return time and amount of each row of a key."""
        if self._entered < self._count:
            self._enter()
        return self._of_key.get(key, ())

    @property
    def load(self) -> Load:
        """Upper bounds of sums of the amounts."""
        return self._load

    def add(self, key: int, time: int, amount: int, load: Load) -> None:
        """Add the latest row; `load` is that of all rows with it."""
        place = self._count
        self._keys[place], self._times[place], self._amounts[place] = key, time, amount
        self._count += 1
        if self._entered == place:
            self._of_key.setdefault(key, []).append((time, amount))
            self._entered += 1
        self._load = load

    def extend(self, rows: KeyRows, load: Load) -> None:
        """Add the latest n rows, at most `MOST` with those that wait.

        Args:
          rows: the rows in order of arrival.
          load: their load.
        """
        places = slice(self._count, self._count + len(rows))
        self._keys[places], self._times[places] = rows.key, rows.time
        self._amounts[places] = rows.amount
        self._count += len(rows)
        self._load += load

    def up_to(self, rows: KeyRows) -> Arrivals:
        """Return the rows of each key that arrived up to each of n rows, which come next."""
        waiting = self._count
        keys = np.concatenate((self._keys[:waiting], rows.key))
        row, place = np.nonzero(keys == rows.key[:, None])
        arrived = place <= row + waiting
        row, place = row[arrived], place[arrived]
        return Arrivals(
            row,
            np.concatenate((self._times[:waiting], rows.time))[place],
            np.concatenate((self._amounts[:waiting], rows.amount))[place],
            place == row + waiting,
        )

    def joined(self) -> KeyRows:
        """Return all rows together."""
        every = slice(0, self._count)
        return KeyRows(
            self._keys[every].copy(), self._times[every].copy(), self._amounts[every].copy()
        )

    def _enter(self) -> None:
        """Enter the rows that came together by their keys."""
        places = slice(self._entered, self._count)
        columns = (self._keys, self._times, self._amounts)
        for key, time, amount in zip(*(c[places].tolist() for c in columns), strict=True):
            self._of_key.setdefault(key, []).append((time, amount))
        self._entered = self._count


def load_of(amount: int) -> Load:
    """Return the load of one amount, units."""
    size = float(abs(amount))
    return Load(1, size, size * size)


class SingleScan:
    """The totals of one row's windows: at each age of a plan, of the rows up to that time.

    Args:
      plan: the windows, of counts, sums, frauds and previous rows alone.
      time: event time of the row, microseconds.
    """

    def __init__(self, plan: WindowPlan, time: int) -> None:
        self._plan = plan
        self._time = time
        self._moments = [time - age for age in plan.place]
        self._counts = [0] * len(self._moments)
        self._amounts = [0] * len(self._moments)
        self._last = dict.fromkeys(plan.last, -1)
        #: Origin to the needles of a frame that begins there.
        self._needles: dict[int, list[int]] = {}

    def add_runs(self, runs: Iterable[RowRun], slot: int) -> None:
        """Add the rows of a slot in runs whose frames have equal bits."""
        counts, amounts, place = self._counts, self._amounts, self._plan.place
        for run in runs:
            if self._moments[0] < run.first:
                continue
            numbers = run.keyed.numbers.data
            needles = self._needles_in(run.keyed.frame, slot)
            last = bisect_right(numbers, needles[0])
            first = bisect_right(numbers, needles[-1], 0, last)
            if first == last:
                # A window is the difference of two positions.
                continue
            positions = [last]
            for needle in needles[1:-1]:
                positions.append(bisect_right(numbers, needle, first, positions[-1]))
            positions.append(first)
            for at, position in enumerate(positions):
                counts[at] += position
            if run.prefix is not None:
                prefix = run.prefix.data
                for at, position in enumerate(positions):
                    amounts[at] += prefix[position]
            for horizon, known in self._last.items():
                before = positions[place[0]]
                if before > positions[place[horizon]]:
                    self._last[horizon] = max(known, run.keyed.time(before - 1))

    def add(self, rows: Sequence[tuple[int, int]]) -> None:
        """Add rows of the key, each a time and an amount; the row itself is one of them."""
        for time, amount in rows:
            for place, moment in enumerate(self._moments):
                if time > moment:
                    break
                self._counts[place] += 1
                self._amounts[place] += amount

    def add_before(self, times: Iterable[int]) -> None:
        """Note the times of rows of the key that arrived before this row."""
        for time in times:
            for horizon, last in self._last.items():
                if self._time - horizon < time <= self._time:
                    self._last[horizon] = max(last, time)

    def features(self, amount: int, frauds: Sequence[Sequence[int]]) -> dict[str, float]:
        """Return the features by name, in the order of the definitions.

        Args:
          amount: the row's, units.
          frauds: known frauds in each window of each definition; empty for one without.
        """
        counts, amounts = self._counts, self._amounts
        features: dict[str, float] = {}
        for plan, known in zip(self._plan.specs, frauds, strict=True):
            for window, (start, end) in enumerate(plan.spans):
                count, total = counts[end] - counts[start], amounts[end] - amounts[start]
                for name, aggregate in plan.features[window]:
                    if aggregate == "seconds_since_last":
                        last = self._last[plan.horizon]
                        features[name] = _NAN if last < 0 else float(self._time - last) / SECOND
                    elif aggregate == "risk":
                        features[name] = known[window] / count if count else 0.0
                    else:
                        features[name] = _feature(aggregate, count, total, amount)
        return features

    def _needles_in(self, frame: Frame, slot: int) -> list[int]:
        needles = self._needles.get(frame.origin)
        if needles is None:
            origin, most, base = frame.origin, (1 << frame.bits) - 1, slot << frame.bits
            # As `KeyTimes.positions` bounds them.
            needles = self._needles[origin] = [
                base + min(max(moment - origin, -1), most) for moment in self._moments
            ]
        return needles


def _feature(aggregate: str, count: int, total: int, amount: int) -> float:
    """Return what `window_totals.derive` does for these totals."""
    match aggregate:
        case "count":
            return float(count)
        case "sum":
            return float(total) / UNITS
        case "mean":
            return float(total) / (count * UNITS) if count else _NAN
        case "ratio":
            return float(amount) * count / float(total) if total else _NAN
    raise ValueError(aggregate)


#: Aggregates of windows that a `SingleScan` computes.
SINGLE = frozenset(("count", "sum", "mean", "ratio", "risk", "seconds_since_last"))
