"""A model to measure, with its scores of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from beam_fraud.evaluation.rows import Floats
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
