"""Precision and recall that follow from scores alone, before any label is known.

A row counts as a fraud with the share of fraud that rows of its score had where labels are known
(`models/reliability.py`). Flagged rows then have an expected number of frauds, and so have the
others: their ratio is the expected recall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from beam_fraud.evaluation.bootstrap import COVERED, Interval
from beam_fraud.evaluation.rows import Ints
from beam_fraud.evaluation.traffic import Estimate
from beam_fraud.models.reliability import Reliability

_Z = float(norm.ppf((1 + COVERED) / 2))


@dataclass(frozen=True)
class Expected:
    """Figures of a period that follow from its scores."""

    #: Number of frauds.
    frauds: Estimate
    precision: Estimate
    recall: Estimate
    average_precision: float | None
    #: Frauds behind the shares of fraud by score.
    rests_on: float


def expected_of(rows: Ints, known: Reliability) -> Expected:
    """Return the expected figures of a period.

    The intervals cover the true figure of the period: they have the chance of its frauds, and that
    of the frauds that the shares rest on, both as few as their campaigns make them.

    Args:
      rows: int64[2, BINS], passed and flagged rows by score.
      known: rows of known labels by score.
    """
    mass = rows * known.shares
    passed, caught = (float(part) for part in mass.sum(axis=1))
    frauds = passed + caught
    precision, recall, average = Estimate(None, None), Estimate(None, None), None
    flagged = int(rows[1].sum())
    if flagged:
        share = caught / flagged
        # Rows with known labels that say as much about the mean share of the flagged ones.
        parts = rows[1] / flagged
        behind = 1 / float((parts**2 / np.maximum(known.rows, 1)).sum())
        precision = Estimate(share, _between(share, known.together * (1 / flagged + 1 / behind)))
    if frauds > 0:
        share = caught / frauds
        behind = max(float(known.frauds.sum()), 1.0)
        recall = Estimate(share, _between(share, known.together * (1 / frauds + 1 / behind)))
        falling_rows, falling = rows.sum(axis=0)[::-1], mass.sum(axis=0)[::-1]
        above = np.cumsum(falling) / np.maximum(np.cumsum(falling_rows), 1)
        average = float((above * falling).sum() / frauds)
    behind = float(known.frauds.sum())
    spread = _Z * float(np.sqrt(known.together * (frauds + frauds**2 / max(behind, 1.0))))
    number = Estimate(frauds, Interval(max(frauds - spread, 0.0), frauds + spread))
    return Expected(number, precision, recall, average, behind)


def _between(share: float, per_row: float) -> Interval:
    """Return the interval of a share with a variance of `share (1 - share) per_row`."""
    # Agresti and Coull (1998): a share of 0 or 1 by few rows leaves doubt as well.
    middle = (share + _Z**2 * per_row / 2) / (1 + _Z**2 * per_row)
    spread = _Z * float(np.sqrt(middle * (1 - middle) * per_row / (1 + _Z**2 * per_row)))
    return Interval(max(middle - spread, 0.0), min(middle + spread, 1.0))
