"""How scores of frauds and of genuine rows are spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beam_fraud.evaluation.rows import Floats, Ints, Labels

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
