"""Correlations of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.explore.rows import Floats, Rows
from beam_fraud.schema.event_time import event_micros

#: Names of further correlated columns.
TIME, LABEL = "event time", "fraud"
#: Maximum of values to rank, and of rows: 50,000 rows give a coefficient to within 0.01.
_MOST_VALUES, _MOST_ROWS, _LEAST_ROWS = 4_000_000, 50_000, 5_000
#: Coefficient from which two features are nearly the same.
_REDUNDANT = 0.95
_DIGITS = 4


@dataclass(frozen=True)
class Pair:
    """Two correlated features."""

    #: One.
    feature: str
    #: The other.
    other: str
    #: Spearman's coefficient, -1 .. 1.
    coefficient: float


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation; an absent value takes the mean rank."""

    #: Numeric features, event time, and the label if there are both classes.
    names: tuple[str, ...]
    #: Matrix of coefficients by name; None where a column is constant.
    coefficients: tuple[tuple[float | None, ...], ...]
    #: Number of rows used, spread evenly.
    rows: int
    #: Pairs of nearly equal features, strongest first.
    redundant: tuple[Pair, ...]

    def with_time(self, feature: str) -> float | None:
        """Return the coefficient of a feature and event time."""
        return self.coefficients[self.names.index(feature)][self.names.index(TIME)]


def correlation(rows: Rows) -> Correlation:
    """Correlate the numeric features of n > 0 rows."""
    features = rows.numeric
    names = (*features, TIME, *((LABEL,) if rows.both_classes else ()))
    most = min(_MOST_ROWS, max(_LEAST_ROWS, _MOST_VALUES // len(names)))
    places = np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64)
    ranks = np.empty((len(names), len(places)))
    for place, name in enumerate(features):
        ranks[place] = _ranks(rows.numbers(name)[places])
    ranks[len(features)] = _ranks(event_micros(rows.transactions)[places].astype(np.float64))
    if rows.both_classes:
        ranks[-1] = _ranks(_labels(rows)[places])
    lengths = np.sqrt(np.einsum("ij,ij->i", ranks, ranks))
    varies = lengths > 0
    ranks[varies] /= lengths[varies, None]
    matrix = np.clip(ranks @ ranks.T, -1.0, 1.0)
    matrix[~varies, :] = matrix[:, ~varies] = np.nan
    return Correlation(
        names,
        tuple(
            tuple(None if value != value else round(value, _DIGITS) for value in line)
            for line in matrix.tolist()
        ),
        len(places),
        _redundant(features, matrix[: len(features), : len(features)]),
    )


def _labels(rows: Rows) -> Floats:
    return np.where(rows.fraud, 1.0, np.where(rows.genuine, 0.0, np.nan))


def _ranks(values: Floats) -> Floats:
    """Return centred ranks, ties at their mean; 0 for NaN."""
    known = ~np.isnan(values)
    ranks = np.zeros(len(values))
    # scipy.stats takes a second to import.
    _, codes, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - (counts - 1) / 2
    ranks[known] = (middles - (known.sum() + 1) / 2)[codes]
    return ranks


def _redundant(features: tuple[str, ...], matrix: Floats) -> tuple[Pair, ...]:
    first, second = np.triu_indices(len(features), 1)
    values = np.nan_to_num(matrix[first, second])
    order = np.argsort(-np.abs(values), kind="stable")
    return tuple(
        Pair(
            features[first[place]],
            features[second[place]],
            round(float(values[place]), _DIGITS),
        )
        for place in order
        if abs(values[place]) >= _REDUNDANT
    )
