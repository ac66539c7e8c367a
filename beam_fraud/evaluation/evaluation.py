"""Evaluate models, and compare them on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from beam_fraud.evaluation.bootstrap import Bootstrap, Difference, Interval
from beam_fraud.evaluation.candidate import Candidate
from beam_fraud.evaluation.curves import (
    Calibration,
    Costs,
    Curves,
    ScoreHistogram,
    calibration_of,
    costs_of,
    curves_of,
    score_histogram,
)
from beam_fraud.evaluation.importance import (
    NativeImportance,
    PermutationImportance,
    affordable_rows,
    native_importance,
    permutation_importance,
    sample_of,
)
from beam_fraud.evaluation.periods import Day, Stability, days_of, stability_of
from beam_fraud.evaluation.rows import EvaluatedRows
from beam_fraud.evaluation.segments import Segmentation, SegmentTable, segment_table
from beam_fraud.models.metrics import Metrics, measure
from beam_fraud.models.threshold import LeastCost
from beam_fraud.monitoring.activity import doing


@dataclass(frozen=True)
class ReportSettings:
    """Options of a report."""

    #: Cards checked per day.
    cards: int
    #: Costs of a missed fraud and a false alarm.
    prices: LeastCost
    #: Of everything random.
    seed: int


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one model."""

    #: Its name and the digest of its manifest.
    model_id: str
    #: Kind of the model.
    kind: str
    #: First and last event time of the fitted rows, ISO 8601; None if unknown.
    trained_on: tuple[str, str] | None
    #: Figures of all rows.
    metrics: Metrics
    #: 95 % intervals of `bootstrap.FIGURES`; None where undefined.
    intervals: dict[str, Interval | None]
    #: Card precision@k, mean over the days; None without accounts.
    card_precision: float | None
    #: Precision, recall and alarms by threshold.
    curves: Curves
    #: Cost by threshold.
    costs: Costs
    #: Calibration of the scores.
    calibration: Calibration
    #: Scores by class.
    histogram: ScoreHistogram
    #: Figures by day.
    days: tuple[Day, ...]
    #: Figures by week.
    stability: Stability
    #: Figures by segment.
    segments: tuple[SegmentTable, ...]
    #: Permutation importance; None if the rows have one class.
    permutation_importance: PermutationImportance | None
    #: The model's own importances, or None.
    native_importance: NativeImportance | None


@dataclass(frozen=True)
class Comparison:
    """Differences of a model from the first one."""

    #: The model.
    model_id: str
    #: The first one.
    against: str
    #: Differences by figure.
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Report:
    """The evaluation of models on the same rows."""

    #: Creation time, ISO 8601.
    created: str
    #: Names of the files.
    files: tuple[str, ...]
    #: First and last event time of the rows, ISO 8601.
    span: tuple[str, str]
    #: IANA time zone of days and hours.
    timezone: str
    #: `handbook`, or None for all rows.
    protocol: str | None
    #: Cards checked per day.
    cards: int
    #: Warnings to the reader.
    warnings: tuple[str, ...]
    #: Units of the bootstrap: rows, or accounts with all their rows.
    unit: Literal["rows", "accounts"]
    #: Resamples of the bootstrap.
    resamples: int
    #: Of everything random.
    seed: int
    #: The models in order.
    models: tuple[Evaluation, ...]
    #: Comparisons of the others with the first.
    comparisons: tuple[Comparison, ...]


def evaluate_models(
    rows: EvaluatedRows,
    candidates: Sequence[Candidate],
    segmentations: Sequence[Segmentation],
    bootstrapped: Bootstrap,
    settings: ReportSettings,
) -> tuple[Evaluation, ...]:
    """Evaluate each model.

    Args:
      rows: n > 0 rows.
      candidates: the models, which share the time limit of importances.
      segmentations: segmentations of the rows.
      bootstrapped: bootstrap of the models.
      settings: options of the report.
    """
    evaluations = []
    for place, candidate in enumerate(candidates):
        with doing(f"measuring {candidate.bundle.model_id}, {place + 1} of {len(candidates)}"):
            intervals = bootstrapped.intervals(place)
            evaluations.append(
                _evaluate(rows, candidate, len(candidates), segmentations, intervals, settings)
            )
    return tuple(evaluations)


def _evaluate(
    rows: EvaluatedRows,
    this: Candidate,
    models: int,
    segmentations: Sequence[Segmentation],
    intervals: dict[str, Interval | None],
    settings: ReportSettings,
) -> Evaluation:
    labels, scores, threshold = rows.labels, this.scores, this.threshold
    manifest = this.bundle.manifest
    days = days_of(rows, scores, threshold, settings.cards)
    of_cards = [day.card_precision for day in days if day.card_precision is not None]
    most = affordable_rows(manifest.microseconds_per_row, len(this.features.names), models)
    sample = sample_of(labels, most, settings.seed)
    matrix = np.ascontiguousarray(this.matrix[sample.rows])
    return Evaluation(
        model_id=this.bundle.model_id,
        kind=manifest.kind,
        trained_on=manifest.trained_on,
        metrics=measure(labels, scores, threshold),
        intervals=intervals,
        card_precision=float(np.mean(of_cards)) if of_cards else None,
        curves=curves_of(labels, scores),
        costs=costs_of(labels, scores, rows.amounts, threshold, settings.prices),
        calibration=calibration_of(labels, scores),
        histogram=score_histogram(labels, scores),
        days=days,
        stability=stability_of(rows, scores, threshold, this.reference),
        segments=tuple(segment_table(s, labels, scores, threshold) for s in segmentations),
        permutation_importance=permutation_importance(
            this.model,
            matrix,
            labels[sample.rows],
            sample.weights,
            this.features.names,
            settings.seed,
        ),
        native_importance=native_importance(this.model, this.features, this.reference, matrix),
    )


def comparisons_of(candidates: Sequence[Candidate], resampled: Bootstrap) -> tuple[Comparison, ...]:
    """Return the comparisons of all models with the first."""
    first = candidates[0].bundle.model_id
    return tuple(
        Comparison(candidate.bundle.model_id, first, resampled.differences(place))
        for place, candidate in enumerate(candidates)
        if place
    )
