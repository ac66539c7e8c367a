"""A model that is measured, with its scores of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from beam_fraud.evaluation.rows import Floats
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.bundle import Bundle
from beam_fraud.models.reference import Reference
from beam_fraud.schema.event_time import micros_of


@dataclass(frozen=True)
class Candidate:
    """One of the models that a report compares."""

    #: Where it is from.
    bundle: Bundle
    #: The classifier.
    model: Any
    #: What it takes.
    features: FeatureSet
    #: The distributions that it was trained on.
    reference: Reference
    #: float64[n, features] of the rows.
    matrix: Floats
    #: float64[n], what it gives them.
    scores: Floats
    #: A score of at least this is flagged.
    threshold: float


def overlap_warning(bundle: Bundle, first: int, last: int) -> str | None:
    """A line that says so where rows may be those that a model was fitted on.

    Args:
      bundle: of the model.
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
