"""How many of many intervals cover each row."""

from __future__ import annotations

import numpy as np

from beam_fraud.features.velocity.batch.sorted_rows import Places


def covering(begin: Places, behind: Places, n: int) -> Places:
    """How many intervals `[begin, behind)` each of n rows is in; int64[n].

    Intervals that end before they begin count for nothing.

    Example:
      >>> covering(np.array([0, 1, 2]), np.array([2, 3, 1]), 4).tolist()
      [1, 2, 1, 0]
    """
    behind = np.maximum(begin, behind)
    steps = np.bincount(begin, minlength=n + 1) - np.bincount(behind, minlength=n + 1)
    return np.cumsum(steps)[:n]
