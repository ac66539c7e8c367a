"""How well each feature alone tells fraud from genuine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from beam_fraud.evaluation.explore.rows import Floats, Rows

#: A value of few rows counts as so many rows at the rate of all.
_PRIOR_ROWS = 20.0


@dataclass(frozen=True)
class Separation:
    """A feature as if it were a score, over the labelled rows that have a value."""

    #: Name of the feature.
    feature: str
    #: Whether frauds have high values, low ones, or certain categories.
    frauds_are: Literal["high", "low", "categories"]
    #: Area under the receiver operating characteristic, at least 0.5.
    roc_auc: float
    #: Area under the precision-recall curve, as average precision.
    average_precision: float
    #: Largest distance between the classes' distribution functions (Kolmogorov, Smirnov).
    ks: float
    #: Where that distance is; None for categories.
    ks_at: float | None
    #: Rows with a value and a label.
    rows: int
    #: Frauds among them.
    frauds: int


def separation(feature: str, labelled: Floats, frauds: Floats) -> Separation | None:
    """Compare the classes in a numeric feature.

    Equal values make one threshold, as in scikit-learn's figures.

    Args:
      feature: the name.
      labelled: float64[p], sorted, of all labelled rows, none absent.
      frauds: float64[f], sorted, of the frauds among them.

    Returns:
      None where a class has no value.
    """
    total, count = len(labelled), len(frauds)
    genuine = total - count
    if not count or not genuine:
        return None
    values, first = np.unique(frauds, return_index=True)
    ends = np.append(first[1:], count)
    # Rows below each value that a fraud has, and those not above it: only there does recall
    # change, and only there can the distance between the classes be largest.
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
    """Compare the classes in a categorical feature.

    A row's score is the rate of its value in the other half of the rows, which are halved by
    turns: a value that is there once tells nothing.

    Args:
      feature: the name.
      values: string[n], null where absent, which counts as a value.
      rows: n of them.
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
