"""How many different merchants windows hold, whose rows lie in several runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from beam_fraud.features.hashing import Hashes
from beam_fraud.features.velocity.state.key_times import Integers

if TYPE_CHECKING:
    from beam_fraud.features.velocity.state.row_run import RowRun

#: Rows of windows that are looked at together: what bounds the memory.
_TOGETHER = 1 << 20


class DistinctMerchants:
    """Ranges of rows of runs, of each of n windows that end at the same moment.

    A merchant is in a window if its latest row before the end is, so the windows that start later
    cost little more. Sums do not help here: a merchant may be in several runs.
    """

    def __init__(self) -> None:
        self._ranges: list[tuple[RowRun, Integers, Integers]] = []

    def add(self, run: RowRun, first: Integers, end: Integers) -> None:
        """Look at rows `first` to before `end` (int64[n] each) of a run, too."""
        self._ranges.append((run, first, end))

    def counts(self, starts: Integers) -> Integers:
        """Different merchants in each window.

        Args:
          starts: int64[windows, n], moments after which the windows start.

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
        found = [_rows(run, first[queries], end[queries]) for run, first, end in self._ranges]
        query, merchant, time = (np.concatenate(column) for column in zip(*found, strict=True))
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
    """Of all rows of the ranges that have a merchant: number of the range, merchant, time."""
    assert run.merchant is not None
    sizes = end - first
    query = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(query)) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
    merchant = run.merchant[rows]
    named = merchant != 0
    return query[named], merchant[named], run.keyed.times(rows[named])
