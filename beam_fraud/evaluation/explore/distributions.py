"""Distributions of numeric features by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from beam_fraud.evaluation.explore.numbers import quantile
from beam_fraud.evaluation.explore.rows import Floats, Rows

_BINS = 30
#: Maximum of distinct values shown individually.
_MOST_VALUES = 40
#: Shares of all rows and of frauds beyond the outer edges, at each end.
_TAIL, _FRAUD_TAIL = 0.001, 0.01
#: Ratio of extreme to central values from which a log axis is used.
_SKEWED = 10.0


@dataclass(frozen=True)
class Distribution:
    """Counts of rows in k bins of a feature, without NaN."""

    #: Name of the feature.
    feature: str
    #: Bins of equal width, bins of equal width in arsinh(x / `knee`), or single values.
    scale: Literal["linear", "log", "values"]
    #: Value from which the scale is logarithmic, in both directions; below it is nearly linear.
    knee: float
    #: k + 1 edges, or k values. Values beyond the first and last edges are in the end bins.
    edges: tuple[float, ...]
    #: Frauds in each bin.
    frauds: tuple[int, ...]
    #: Genuine rows in each bin.
    genuine: tuple[int, ...]
    #: Rows without a label in each bin.
    unlabelled: tuple[int, ...]


def distribution(feature: str, values: Floats, present: Floats, rows: Rows) -> Distribution | None:
    """Count the rows of each class by their values.

    Args:
      feature: the name.
      values: float64[n], NaN where absent.
      present: float64[p], the present values, sorted.
      rows: n of them.

    Returns:
      None if every value is absent.
    """
    if not len(present):
        return None
    known = ~np.isnan(values)
    fraud_values = np.sort(values[rows.fraud & known])
    knee = 0.0
    few = _few_values(present)
    if few is not None:
        edges, bins = few, len(few)
        codes = few.searchsorted(values)
    else:
        low, high = _range(present, fraud_values)
        knee = _knee(present, low, high)
        start, stop = _bent(np.array([low, high]), knee)
        step = (stop - start) / _BINS
        edges, bins = _straight(start + step * np.arange(_BINS + 1), knee), _BINS
        places = (np.where(known, _bent(values, knee), start) - start) / step
        codes = np.clip(places, 0, _BINS - 1).astype(np.int64)
    classes = (rows.fraud, rows.genuine, ~(rows.fraud | rows.genuine))
    frauds, genuine, unlabelled = (
        tuple(np.bincount(codes[mask & known], minlength=bins).tolist()) for mask in classes
    )
    return Distribution(
        feature,
        "values" if few is not None else "log" if knee else "linear",
        knee,
        tuple(edges.tolist()),
        frauds,
        genuine,
        unlabelled,
    )


def _few_values(present: Floats) -> Floats | None:
    starts = np.concatenate(([True], present[1:] != present[:-1]))
    return present[starts] if int(starts.sum()) <= _MOST_VALUES else None


def _range(present: Floats, frauds: Floats) -> tuple[float, float]:
    """Return the range to show: nearly all rows, and nearly all frauds, which may lie apart."""
    low, high = quantile(present, _TAIL), quantile(present, 1 - _TAIL)
    if len(frauds):
        low = min(low, quantile(frauds, _FRAUD_TAIL))
        high = max(high, quantile(frauds, 1 - _FRAUD_TAIL))
    if low == high:
        low, high = float(present[0]), float(present[-1])
    return low, high


def _knee(present: Floats, low: float, high: float) -> float:
    """Return the start of a log scale; 0 for a linear one."""
    sizes = np.abs(present)
    sizes = sizes[sizes > 0]
    middle = float(np.median(sizes))
    skewed = max(abs(low), abs(high)) > _SKEWED * middle
    if not skewed or middle <= 0:
        return 0.0
    # A log scale would tear values around zero apart.
    return middle / 10 if low >= 0 else 2 * middle


def _bent(values: Floats, knee: float) -> Floats:
    return np.arcsinh(values / knee) if knee else values


def _straight(values: Floats, knee: float) -> Floats:
    return np.sinh(values) * knee if knee else values
