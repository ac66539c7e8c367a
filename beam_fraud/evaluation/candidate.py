"""A model that is measured, with its scores of the rows, and how far two of them agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from beam_fraud.evaluation.comparison.swap import swap_set
from beam_fraud.evaluation.rows import Floats, Labels
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.bundle import Bundle, load_model, read_reference
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference
from beam_fraud.monitoring.activity import doing
from beam_fraud.schema.event_time import micros_of


@dataclass(frozen=True)
class Candidate:
    """One of the models that a report compares."""

    #: Its bundle.
    bundle: Bundle
    #: The classifier.
    model: Any
    #: Its features.
    features: FeatureSet
    #: Its reference distributions.
    reference: Reference
    #: float64[n, features] of the rows.
    matrix: Floats
    #: float64[n], its scores.
    scores: Floats
    #: A score of at least this is flagged.
    threshold: float


def candidate_of(
    bundle: Bundle, transactions: pa.Table, features: FeatureSet, threshold: float | None = None
) -> Candidate:
    """Score transactions by a model.

    Args:
      bundle: bundle of the model.
      transactions: n rows as `Schema.transactions` describes them, with velocity features.
      features: the model's features.
      threshold: the threshold, or None for the bundle's own.

    Raises:
      FraudError: a file of the bundle is missing or changed, or the model cannot be opened.
    """
    model = load_model(bundle)
    matrix = feature_matrix(transactions, features)
    with doing(f"scoring {len(matrix):,} rows with {bundle.model_id}"):
        scores = predict_scores(model, matrix)
    return Candidate(
        bundle=bundle,
        model=model,
        features=features,
        reference=read_reference(bundle),
        matrix=matrix,
        scores=scores,
        threshold=bundle.thresholds.review if threshold is None else threshold,
    )


def overlap_warning(bundle: Bundle, first: int, last: int) -> str | None:
    """Return a warning if rows may overlap with those that a model was fitted on.

    Args:
      bundle: bundle of the model.
      first: first event time of the rows, microseconds.
      last: last event time of the rows, microseconds.
    """
    trained_on = bundle.manifest.trained_on
    if trained_on is None:
        return None
    start, stop = (micros_of(datetime.fromisoformat(text)) for text in trained_on)
    if last < start or first > stop:
        return None
    return (
        f"{bundle.model_id} was fitted on rows from {trained_on[0]} to {trained_on[1]}, and some "
        "of these rows are of that time: figures of rows that a model has learned promise too "
        "much; give later ones (--from)"
    )


@dataclass(frozen=True)
class Agreement:
    """The rows that two models flag, each by its own threshold."""

    #: Rows that both flag.
    both: int
    #: Rows that the first alone flags.
    only_first: int
    #: Rows that the second alone flags.
    only_second: int
    #: Frauds among the rows above.
    frauds_both: int
    frauds_only_first: int
    frauds_only_second: int
    #: Jaccard index of the flagged rows; None if nothing is flagged.
    overlap: float | None
    #: Spearman's correlation of the scores; None if a model scores all rows equally.
    rank_correlation: float | None


def agreement(
    labels: Labels, first: Floats, second: Floats, thresholds: tuple[float, float]
) -> Agreement:
    """Compare the flags and scores of two models on n rows.

    Args:
      labels: int8[n], 1 is fraud.
      first: float64[n], scores of one model.
      second: float64[n], scores of the other.
      thresholds: the threshold of each model.
    """
    flags = swap_set(first >= thresholds[0], second >= thresholds[1], labels)
    return Agreement(
        both=flags.both.rows,
        only_first=flags.only_first.rows,
        only_second=flags.only_second.rows,
        frauds_both=flags.both.frauds,
        frauds_only_first=flags.only_first.frauds,
        frauds_only_second=flags.only_second.frauds,
        overlap=None if flags.share is None else 1 - flags.share,
        rank_correlation=rank_correlation(first, second),
    )


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Return Spearman's rho with mean ranks for ties; None if a list is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)
