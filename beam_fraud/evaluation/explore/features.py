"""Each feature alone: its values, and how well it tells fraud from genuine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from beam_fraud.evaluation.explore.rows import Floats, Rows


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


#: Smoothing: rows at the overall rate added to each value.
_PRIOR_ROWS = 20.0


@dataclass(frozen=True)
class Separation:
    """A feature used as a score, on labelled rows with a value."""

    #: Name of the feature.
    feature: str
    #: Whether frauds have high values, low values, or certain categories.
    frauds_are: Literal["high", "low", "categories"]
    #: Area under the receiver operating characteristic, at least 0.5.
    roc_auc: float
    #: Area under the precision-recall curve, as average precision.
    average_precision: float
    #: Largest distance between the classes' distribution functions (Kolmogorov, Smirnov).
    ks: float
    #: Value of that distance; None for categories.
    ks_at: float | None
    #: Rows with a value and a label.
    rows: int
    #: Frauds among them.
    frauds: int


def separation(feature: str, labelled: Floats, frauds: Floats) -> Separation | None:
    """Measure the separation by a numeric feature.

    Equal values make one threshold, as in scikit-learn's figures.

    Args:
      feature: the name.
      labelled: float64[p], sorted values of all labelled rows, without NaN.
      frauds: float64[f], sorted values of the frauds among them.

    Returns:
      None if a class has no value.
    """
    total, count = len(labelled), len(frauds)
    genuine = total - count
    if not count or not genuine:
        return None
    values, first = np.unique(frauds, return_index=True)
    ends = np.append(first[1:], count)
    # Rows below each fraud's value, and those not above it: only there recall changes, and only
    # there the distance between the classes can be largest.
    below, upto = (labelled.searchsorted(values, side) for side in ("left", "right"))
    genuine_below, genuine_upto = below - first, upto - ends
    auc = float(((genuine_below + genuine_upto) / 2 @ (ends - first)) / count / genuine)
    gaps = np.stack(
        (first / count - genuine_below / genuine, ends / count - genuine_upto / genuine)
    )
    place = int(np.abs(gaps).max(axis=0).argmax())
    high = auc >= 0.5
    precision = (count - first) / (total - below) if high else ends / upto
    return Separation(
        feature=feature,
        frauds_are="high" if high else "low",
        roc_auc=max(auc, 1 - auc),
        average_precision=float(precision @ (ends - first) / count),
        ks=float(np.abs(gaps).max()),
        ks_at=float(values[place]),
        rows=total,
        frauds=count,
    )


def category_separation(feature: str, values: pa.StringArray, rows: Rows) -> Separation | None:
    """Measure the separation by a categorical feature.

    A row's score is the rate of its value in the other half of the rows, which alternate: a value
    that occurs once carries no information.

    Args:
      feature: the name.
      values: string[n]; null counts as a value.
      rows: n rows.
    """
    codes = np.asarray(values.dictionary_encode(null_encoding="encode").indices, dtype=np.int64)
    known = np.flatnonzero(rows.fraud | rows.genuine)
    if not len(known) or not rows.both_classes:
        return None
    codes, fraud = codes[known], rows.fraud[known]
    count, rate = int(codes.max()) + 1, float(fraud.mean())
    scores = np.empty(len(known))
    for half in (slice(0, None, 2), slice(1, None, 2)):
        other = slice(1 - (half.start or 0), None, 2)
        frauds = np.bincount(codes[other], weights=fraud[other], minlength=count)
        seen = np.bincount(codes[other], minlength=count)
        scores[half] = ((frauds + _PRIOR_ROWS * rate) / (seen + _PRIOR_ROWS))[codes[half]]
    separated = separation(feature, np.sort(scores), np.sort(scores[fraud]))
    if separated is None:
        return None
    return Separation(
        feature,
        "categories",
        separated.roc_auc,
        separated.average_precision,
        separated.ks,
        None,
        separated.rows,
        separated.frauds,
    )
