"""Train a model: choose on later rows, then fit on all."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_fraud.duration import DAY
from beam_fraud.errors import FraudError
from beam_fraud.features.categories import categories_of
from beam_fraud.features.matrix import FeatureSet, feature_matrix
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.metrics import Metrics, measure
from beam_fraud.models.predict import microseconds_per_row, predict_scores
from beam_fraud.models.reference import Reference, reference_of
from beam_fraud.models.split import split_by_time, split_stratified
from beam_fraud.models.threshold import OPTION, Operating, ThresholdRule, operating_points
from beam_fraud.schema import Schema

_log = logging.getLogger(__name__)
#: What gives the rule for the threshold to decline from.
DECLINE_OPTION = "--decline"


@dataclass(frozen=True)
class Recipe:
    """How a model is to be trained."""

    #: What is trained, and with which settings.
    kind: ModelKind
    #: How the threshold is chosen.
    rule: ThresholdRule
    #: How the threshold to decline from is chosen; None: nothing is declined.
    decline: ThresholdRule | None = None
    #: Whether later rows choose, or random ones of equal shares of fraud.
    split: Literal["time", "stratified"] = "time"
    #: First moment of the rows that choose, for a split by time; None is the last fifth.
    valid_from: datetime | None = None
    #: Of everything random.
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A model and what was learned about it on the way."""

    #: The classifier, fitted on all rows that were not held out.
    model: Any
    #: The kind with the settings that were chosen.
    kind: ModelKind
    #: The features that it takes, with their category lists.
    features: FeatureSet
    #: The score from which to flag.
    threshold: float
    #: The score from which to decline, or None.
    decline: float | None
    #: Figures of the rows in `reported_on`.
    metrics: Metrics
    #: Which rows the figures are of, and what they were not used for.
    reported_on: Literal["validation", "held_out"]
    #: int8[n] and float64[n]: labels and scores of those rows.
    labels: npt.NDArray[np.int8]
    scores: npt.NDArray[np.float64]
    #: First and last event time of the rows that chose, ISO 8601.
    validated_on: tuple[str, str]
    #: First and last event time of the rows that the model was fitted on, ISO 8601.
    trained_on: tuple[str, str]
    #: Number of rows to fit on, to choose on and held out.
    sizes: dict[str, int]
    #: Distribution of the features fitted on, and of scores of rows not fitted on.
    reference: Reference
    #: What a prediction costs on one thread.
    microseconds_per_row: float
    #: What all of it took.
    seconds: float

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the kind, as they were chosen."""
        return self.kind.settings


def train(transactions: pa.Table, schema: Schema, recipe: Recipe) -> Trained:
    """Train a model.

    Args:
      transactions: rows as `schema.transactions(labels="required")` describes them, in time order.
      schema: what they are.
      recipe: how.

    Raises:
      FraudError: there is no label, no row or only one class where both are needed, the
        threshold's target is out of reach, or what is declined would not be reviewed.
    """
    start = time.perf_counter()
    labels = _labels(transactions, schema)
    if recipe.split == "time":
        split = split_by_time(transactions.column("event_time"), recipe.valid_from)
    else:
        split = split_stratified(labels, recipe.seed)
    valid_times = transactions.column("event_time").take(pa.array(split.valid))
    validated_on = _span(valid_times)
    span = f"from {validated_on[0]} to {validated_on[1]}"
    _check_classes(labels[split.train], "rows to fit on")
    _check_classes(labels[split.valid], f"validation rows ({span})")

    features, fitted_on = _learn(transactions, labels, schema, split.train)
    valid = _rows(transactions, labels, features, split.valid)
    _log.info("fitting %s on %d rows", recipe.kind.name, len(split.train))
    kind, valid_scores = recipe.kind.validate(fitted_on, valid, recipe.seed)
    days = pc.max(valid_times).value - pc.min(valid_times).value
    points = operating_points(valid.labels, valid_scores, days / DAY)
    threshold = recipe.rule.choose(points)
    decline = _decline(recipe, points, threshold)

    features, fitted_on = _learn(transactions, labels, schema, split.refit)
    _log.info("fitting %s again on %d rows", kind.name, len(split.refit))
    model = kind.fit(fitted_on, recipe.seed)
    reported, scores = valid, valid_scores
    if len(split.held_out):
        reported = _rows(transactions, labels, features, split.held_out)
        scores = predict_scores(model, reported.matrix)
    return Trained(
        model=model,
        kind=kind,
        features=features,
        threshold=threshold,
        decline=decline,
        metrics=measure(reported.labels, scores, threshold),
        reported_on="held_out" if len(split.held_out) else "validation",
        labels=reported.labels,
        scores=scores,
        validated_on=validated_on,
        trained_on=_span(transactions.column("event_time").take(pa.array(split.refit))),
        sizes={name: len(part) for name, part in vars(split).items()},
        reference=reference_of(fitted_on.matrix, features, scores),
        microseconds_per_row=microseconds_per_row(model, fitted_on.matrix),
        seconds=round(time.perf_counter() - start, 3),
    )


def _decline(recipe: Recipe, points: Operating, review: float) -> float | None:
    if recipe.decline is None:
        return None
    decline = recipe.decline.choose(points, DECLINE_OPTION)
    if decline < review:
        raise FraudError(
            f"{DECLINE_OPTION}: gives a score of {decline:.6g}, which is below the {review:.6g} "
            f"of {OPTION}; ask {DECLINE_OPTION} for a higher precision or fewer alerts"
        )
    return decline


def _span(times: pa.ChunkedArray) -> tuple[str, str]:
    first, last = (value.as_py().isoformat() for value in pc.min_max(times).values())
    return first, last


def _labels(transactions: pa.Table, schema: Schema) -> npt.NDArray[np.int8]:
    if schema.role("label") is None:
        raise FraudError(
            f"schema {schema.name}: no column is given for the role 'label', so there is nothing "
            "to learn from"
        )
    if not transactions.num_rows:
        raise FraudError("no rows to train on in the files and times given")
    labels = np.asarray(transactions.column("label").to_numpy(), dtype=np.int8)
    _check_classes(labels, "rows")
    return labels


def _check_classes(labels: npt.NDArray[np.int8], rows: str) -> None:
    frauds = int(labels.sum())
    if not 0 < frauds < len(labels):
        only = "a fraud" if frauds else "genuine"
        raise FraudError(
            f"training needs frauds and genuine transactions: each of the {len(labels)} {rows} "
            f"is {only}" + ("; give other times (--from, --valid-from, --until)")
        )


def _learn(
    transactions: pa.Table, labels: npt.NDArray[np.int8], schema: Schema, at: npt.NDArray[np.int64]
) -> tuple[FeatureSet, LabelledRows]:
    """The features of rows to fit on; their categories are all that the model will ever know."""
    table = transactions.take(pa.array(at))
    categories = {
        feature.column: categories_of(table.column(feature.column))
        for feature in schema.features
        if feature.kind == "categorical"
    }
    features = FeatureSet(schema, categories)
    return features, LabelledRows(feature_matrix(table, features), labels[at], features.categorical)


def _rows(
    transactions: pa.Table,
    labels: npt.NDArray[np.int8],
    features: FeatureSet,
    at: npt.NDArray[np.int64],
) -> LabelledRows:
    table = transactions.take(pa.array(at))
    return LabelledRows(feature_matrix(table, features), labels[at], features.categorical)
