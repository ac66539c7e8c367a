"""What the values of a numeric feature are like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.explore.rows import Floats


@dataclass(frozen=True)
class Numbers:
    """The present values of a numeric feature; None where there is no value."""

    #: Name of the feature.
    feature: str
    #: How many are present.
    present: int
    #: How many different ones.
    distinct: int
    #: The smallest.
    least: float | None
    #: The one in the middle.
    median: float | None
    #: Their mean.
    mean: float | None
    #: A hundredth are larger.
    percentile_99: float | None
    #: The largest.
    most: float | None
    #: Share of the one that is there most often.
    most_frequent_share: float | None
    #: Whether all are whole numbers.
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
    """Return the value that this share of p > 0 sorted values is below; one of the values."""
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])
