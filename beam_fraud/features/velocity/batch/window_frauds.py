"""How many known frauds each window holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.features.velocity.batch.interval_counts import covering
from beam_fraud.features.velocity.batch.late_rows import earliest_arrivals, expand
from beam_fraud.features.velocity.batch.sorted_rows import Places, SortedRows
from beam_fraud.features.velocity.key_rows import Times


@dataclass(frozen=True)
class SliceFrauds:
    """Frauds of the keys of a slice, m of them."""

    #: int64[m], numbers of their keys in the slice.
    code: Places
    #: int64[m], event times.
    time: Times
    #: int64[m], when they were labelled, or the event times.
    visible: Times
    #: int64[m], the arrival from which on they are known; None: all along.
    arrival: Places | None


def known_frauds(rows: SortedRows, frauds: SliceFrauds, length: int, delay: int) -> Places:
    """Frauds that each row knows of in its window.

    A fraud at `e` is in the windows of the rows at `[e + delay, e + delay + length)`: a range, so
    the few frauds are looked up among the rows, not the other way round.

    Args:
      rows: n rows.
      frauds: of their keys.
      length: of the windows, microseconds.
      delay: how long before now the windows end, microseconds.

    Returns:
      int64[n].
    """
    entering = np.maximum(frauds.time + delay, frauds.visible)
    begin = rows.places_of(frauds.code, entering)
    behind = rows.places_of(frauds.code, frauds.time + (delay + length))
    counts = covering(begin, behind, len(rows))
    if rows.arrival is not None and frauds.arrival is not None and len(frauds.code):
        # Take back what was not known yet to rows that came before the fraud did.
        inside = np.flatnonzero(begin < behind)
        earliest = earliest_arrivals(rows)[begin[inside]]
        early = inside[earliest < frauds.arrival[inside]]
        for part, row, fraud in expand(begin[early], behind[early]):
            unknown = rows.arrival[row] < frauds.arrival[early[part]][fraud]
            counts -= np.bincount(row[unknown], minlength=len(rows))
    return counts
