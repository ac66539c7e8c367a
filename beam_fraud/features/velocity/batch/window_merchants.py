"""How many different merchants each window holds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.features.velocity.batch.interval_counts import covering
from beam_fraud.features.velocity.batch.sorted_rows import Places, SortedRows


def previous_of_merchant(rows: SortedRows) -> tuple[Places, Places]:
    """The rows that have a merchant, and of each the row before it with the same one.

    Returns:
      int64[m], ascending, and int64[m], -1 where the key was not at that merchant before.
    """
    assert rows.merchant is not None
    with_merchant = np.flatnonzero(rows.merchant)
    codes = np.asarray(pc.dictionary_encode(pa.array(rows.merchant[with_merchant])).indices)
    pairs = (rows.code[with_merchant] << 32) | codes
    grouped = np.argsort(pairs, kind="stable")
    same = np.flatnonzero(pairs[grouped[1:]] == pairs[grouped[:-1]])
    previous = np.full(len(pairs), -1, dtype=np.int64)
    previous[grouped[same + 1]] = with_merchant[grouped[same]]
    return with_merchant, previous


def distinct_merchants(
    rows: SortedRows, merchants: tuple[Places, Places], first: Places, behind: Places
) -> Places:
    """Different merchants of each row's window, absent ones not counted.

    A row stands for its merchant in the windows that hold it and not the row before it with that
    merchant. As windows only move forward, those belong to consecutive rows: from the first whose
    window ends behind it and starts behind its predecessor, to the last whose window holds it.

    Args:
      rows: n rows.
      merchants: of `previous_of_merchant`.
      first: int64[n], ascending: the first row of each row's window.
      behind: int64[n], ascending: the row behind each row's window.

    Returns:
      int64[n].
    """
    n = len(rows)
    standing, previous = merchants
    # Number of windows that start, or end, at or before a row: the first window beyond it.
    starts_beyond = np.cumsum(np.bincount(first, minlength=n + 1))
    ends_beyond = np.cumsum(np.bincount(behind, minlength=n + 1))
    begin = np.maximum(ends_beyond[standing], np.where(previous < 0, 0, starts_beyond[previous]))
    return covering(begin, starts_beyond[standing], n)
