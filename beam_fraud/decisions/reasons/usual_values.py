"""Usual values of features, with which reasons compare."""

from __future__ import annotations

import math

import numpy as np

from beam_fraud.decisions.reasons.explainer import Floats
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.reference import Distribution, Reference


def usual_values(reference: Reference, features: FeatureSet) -> Floats:
    """Return the usual value of each feature of a model.

    Args:
      reference: its reference distributions; empty if unknown.
      features: its features.

    Returns:
      float64[features]: the median, or the code of the most frequent category; NaN if unknown.
    """
    known = {distribution.feature: distribution for distribution in reference.distributions}
    return np.array([_usual(known.get(name)) for name in features.names])


def _usual(distribution: Distribution | None) -> float:
    if distribution is None:
        return math.nan
    counts = np.asarray(distribution.counts)
    if distribution.kind == "categorical":
        return float(np.argmax(counts)) if counts.sum() else math.nan
    if not distribution.edges:
        return math.nan
    # Edges are distinct deciles: the median is one of them, but not always the middle one.
    return distribution.edges[int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))]
