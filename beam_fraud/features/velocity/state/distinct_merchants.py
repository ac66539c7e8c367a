"""Count the distinct merchants of windows whose rows lie in several runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.state.key_times import Integers

if TYPE_CHECKING:
    from beam_fraud.features.velocity.state.row_run import RowRun

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
