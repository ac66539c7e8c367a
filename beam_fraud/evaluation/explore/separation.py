"""Separation of the classes by each single feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from beam_fraud.evaluation.explore.rows import Floats, Rows

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
    found = separation(feature, np.sort(scores), np.sort(scores[fraud]))
    if found is None:
        return None
    return Separation(
        feature,
        "categories",
        found.roc_auc,
        found.average_precision,
        found.ks,
        None,
        found.rows,
        found.frauds,
    )
