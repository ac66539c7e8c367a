"""Precision, recall and alarms by threshold, thinned for plots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.rows import Floats, Ints, Labels
from beam_fraud.models.threshold import Operating, operating_points

#: Approximate maximum of points of a curve.
_POINTS = 400


@dataclass(frozen=True)
class Curves:
    """Effects of k thresholds, highest first; the lowest flags every row."""

    #: float64[k], falling.
    thresholds: Floats
    #: int64[k]: rows with at least that score.
    flagged: Ints
    #: int64[k]: frauds among them.
    caught: Ints
    #: float64[k]: frauds among the flagged.
    precision: Floats
    #: float64[k]: flagged among the frauds; NaN without frauds.
    recall: Floats
    #: float64[k]: flagged among the genuine; NaN without any.
    false_positive_rate: Floats


def curves_of(labels: Labels, scores: Floats) -> Curves:
    """Return the curves of n > 0 rows.

    Args:
      labels: int8[n], 1 is fraud.
      scores: float64[n].
    """
    points = operating_points(labels, scores, 0.0)
    at = thinned(points)
    flagged, caught = points.flagged[at], points.caught[at]
    genuine = len(labels) - points.frauds
    with np.errstate(divide="ignore", invalid="ignore"):
        return Curves(
            thresholds=points.thresholds[at],
            flagged=flagged,
            caught=caught,
            precision=caught / flagged,
            recall=caught / np.float64(points.frauds),
            false_positive_rate=(flagged - caught) / np.float64(genuine),
        )


def thinned(points: Operating) -> Ints:
    """Return the points that a plot needs, increasing.

    Precision falls between two frauds and jumps at the second: keep both ends of a jump where jumps
    are few, and spread the rest evenly by the logarithm of the flagged rows.
    """
    jumps = np.flatnonzero(np.diff(points.caught, prepend=0))
    ends = np.unique(np.concatenate([jumps, jumps[jumps > 0] - 1]))
    if len(ends) > _POINTS:
        ends = ends[np.linspace(0, len(ends) - 1, _POINTS).astype(np.int64)]
    last = len(points.flagged) - 1
    spread = np.searchsorted(points.flagged, np.geomspace(1, points.flagged[-1], _POINTS // 4))
    chosen: Ints = np.unique(np.concatenate([ends, np.minimum(spread, last), [0, last]]))
    return chosen


_BINS = 50


@dataclass(frozen=True)
class ScoreHistogram:
    """Rows by score, in bins of equal width from 0 to 1."""

    #: float64[bins + 1].
    edges: Floats
    #: int64[bins].
    genuine: Ints
    #: int64[bins].
    frauds: Ints


def score_histogram(labels: Labels, scores: Floats) -> ScoreHistogram:
    """Count rows by score: labels int8[n], scores float64[n] in 0..1."""
    edges = np.linspace(0, 1, _BINS + 1)
    genuine, frauds = (np.histogram(scores[labels == label], edges)[0] for label in (0, 1))
    return ScoreHistogram(edges, genuine, frauds)
