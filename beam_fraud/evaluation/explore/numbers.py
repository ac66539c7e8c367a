"""Statistics of numeric features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.explore.rows import Floats


@dataclass(frozen=True)
class Numbers:
    """Statistics of the present values of a feature; None without any."""

    #: Name of the feature.
    feature: str
    #: Number of present values.
    present: int
    #: Number of distinct values.
    distinct: int
    #: Minimum.
    least: float | None
    #: Median.
    median: float | None
    #: Mean.
    mean: float | None
    #: 99th percentile.
    percentile_99: float | None
    #: Maximum.
    most: float | None
    #: Share of the most frequent value.
    most_frequent_share: float | None
    #: Whether all are integers.
    whole: bool


def numbers(feature: str, present: Floats) -> Numbers:
    """Describe values.

    Args:
      feature: the name.
      present: float64[p], sorted.
    """
    if not len(present):
        return Numbers(feature, 0, 0, None, None, None, None, None, None, False)
    starts = np.flatnonzero(np.concatenate(([True], present[1:] != present[:-1])))
    runs = np.diff(np.concatenate((starts, [len(present)])))
    return Numbers(
        feature=feature,
        present=len(present),
        distinct=len(starts),
        least=float(present[0]),
        median=quantile(present, 0.5),
        mean=float(present.mean()),
        percentile_99=quantile(present, 0.99),
        most=float(present[-1]),
        most_frequent_share=float(runs.max() / len(present)),
        whole=bool(np.array_equal(present[starts], np.floor(present[starts]))),
    )


def quantile(ordered: Floats, share: float) -> float:
    """Return the quantile of p > 0 sorted values; one of the values."""
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])
