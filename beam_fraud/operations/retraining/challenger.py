"""Fit a challenger on an archive and its labels."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from beam_fraud.errors import FraudError
from beam_fraud.features.dataset import digest_of_rows
from beam_fraud.features.matrix import feature_matrix
from beam_fraud.models.bundle import Bundle, load_model
from beam_fraud.models.label_delay import DelayEstimate, Floats
from beam_fraud.models.manifest import Thresholds
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.threshold import AlertBudget, operating_points
from beam_fraud.models.training import DECLINE_OPTION, Budgeted, Recipe, Trained, train
from beam_fraud.monitoring.activity import doing
from beam_fraud.operations.retraining.periods import LabelledTimes, Periods
from beam_fraud.operations.retraining.weights import SampleWeights, audit_weights, delay_weights
from beam_fraud.records.label_file import NEVER, LabelFile
from beam_fraud.schema.duration import DAY
from beam_fraud.schema.event_time import event_micros, moment_of
from beam_fraud.schema.schema import EVENT_TIME, Schema

_log = logging.getLogger(__name__)
#: Alerts of a budget in the youngest rows from which its threshold is taken from them: chance moves
#: fewer by more than a fifth.
_FEWEST_ALERTS = 25
#: What is registered: the compared model, the same recipe fitted again on all mature rows, or that
#: also with younger rows, whose frauds stand for those that have no label yet.
Registered = Literal["refit", "compared", "weighted"]


@dataclass(frozen=True)
class Archive:
    """The labelled transactions of an archive."""

    #: n rows as `Schema.transactions(labels="required")` describes them, with velocity features, in
    #: time order.
    transactions: pa.Table
    #: The schema of the rows.
    schema: Schema
    #: Their times and labels.
    labelled: LabelledTimes
    #: float64[n]: the probability with which each was shown to people; NaN if unknown or not shown.
    probabilities: Floats

    @classmethod
    def of(cls, transactions: pa.Table, schema: Schema, given: LabelFile | None) -> Archive:
        """Return the archive of rows.

        Args:
          transactions: n rows, at least one.
          schema: their schema.
          given: the file that their labels come from; None for their own.
        """
        times = event_micros(transactions)
        known_at = np.full(len(times), NEVER)
        if "labelled_at" in transactions.column_names:
            column = transactions.column("labelled_at").cast(pa.int64()).fill_null(NEVER)
            known_at = np.asarray(column.to_numpy(), dtype=np.int64)
        ids = transactions.column("transaction_id").combine_chunks()
        probabilities = np.full(len(times), np.nan) if given is None else given.probabilities(ids)
        as_of = max(int(times[-1]), int(known_at.max()))
        labels = np.asarray(transactions.column("label").to_numpy(), dtype=np.int8)
        rows = LabelledTimes(times, labels, known_at, as_of)
        return cls(transactions, schema, rows, probabilities)

    def digest(self, periods: Periods, settings: str) -> str:
        """Return a SHA-256 of the mature rows, their labels, and what is made of them."""
        count = periods.mature(self.labelled.times)
        digest = hashlib.sha256(settings.encode())
        digest.update(digest_of_rows(self.transactions.slice(0, count)).encode())
        digest.update(np.ascontiguousarray(self.labelled.known_at[:count], dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.probabilities[:count], dtype="<f8").tobytes())
        return digest.hexdigest()

    def counted_labels(self, first: int) -> pa.Table:
        """Return the labels of rows as training takes them, in the form of a label file.

        Args:
          first: position of the first row; earlier ones are there only if their label has a time.
        """
        known_at = self.labelled.known_at
        rows = (np.arange(len(known_at)) >= first) | (known_at != NEVER)
        return pa.table(
            {
                "transaction_id": self.transactions.column("transaction_id").filter(pa.array(rows)),
                "label": self.labelled.labels[rows],
                "labelled_at": pa.array(known_at[rows], mask=known_at[rows] == NEVER).cast(
                    EVENT_TIME
                ),
            }
        )

    def weights(self, count: int) -> SampleWeights:
        """Return how many transactions each of the first rows stands for, by the audit lane."""
        return audit_weights(self.labelled.labels[:count], self.probabilities[:count])


@dataclass(frozen=True)
class AlertRate:
    """Rows a day that a model flags and declines."""

    review: float
    #: None if it declines nothing.
    decline: float | None


def alert_rate(archive: Archive, periods: Periods, champion: Bundle) -> AlertRate:
    """Return what the champion flags a day of the compared rows, which it was not fitted on.

    Raises:
      FraudError: its bundle was changed, or the schema lacks one of its features.
    """
    times = archive.labelled.times
    first, end = periods.learned(times), periods.mature(times)
    rows = archive.transactions.slice(first, end - first)
    matrix = feature_matrix(rows, champion.features_in(archive.schema))
    with doing(f"scoring {len(matrix):,} rows with {champion.model_id}"):
        scores = predict_scores(load_model(champion), matrix)
    days = max((periods.mature_until - periods.compared_from) / DAY, 1.0)
    thresholds = champion.thresholds

    def per_day(threshold: float) -> float:
        # A budget needs at least one alert.
        return max(int(np.count_nonzero(scores >= threshold)), 1) / days

    decline = None if thresholds.decline is None else per_day(thresholds.decline)
    return AlertRate(per_day(thresholds.review), decline)


def fit_compared(archive: Archive, periods: Periods, recipe: Recipe) -> Trained:
    """Fit the model that is compared with the champion, on the rows before the compared ones.

    Raises:
      FraudError: these rows allow no training.
    """
    count = periods.learned(archive.labelled.times)
    weights = archive.weights(count)
    rows = archive.transactions.slice(0, count)
    return train(rows, archive.schema, recipe, weights.repeats(recipe.seed))


def fit_again(
    archive: Archive, periods: Periods, recipe: Recipe, delays: DelayEstimate | None
) -> Trained:
    """Fit the same recipe again, on all mature rows.

    A budget of alerts is kept on the rows that are too young to learn from: this model gives other
    scores than the compared one, which chose the thresholds.

    Args:
      archive: the rows.
      periods: the periods.
      recipe: the recipe of the compared model, without tuning.
      delays: how late labels come, to learn from younger rows as well; their frauds stand for those
        whose labels are still to come. Nothing is chosen by them. None leaves them out.

    Raises:
      FraudError: these rows allow no training.
    """
    labelled = archive.labelled
    count = periods.mature(labelled.times)
    if delays is None:
        weights = archive.weights(count)
    else:
        by_delay, young = delay_weights(labelled.labels, labelled.as_of - labelled.times, delays)
        recipe = replace(recipe, valid_until=moment_of(periods.mature_until))
        if recipe.valid_from is None:
            # The last fifth of the mature rows, as without the younger ones.
            recipe = replace(recipe, valid_from=moment_of(int(labelled.times[count * 4 // 5])))
        _log.info("learning also from %d rows that are not mature", max(young - count, 0))
        count = max(count, young)
        weights = archive.weights(count)
        both = weights.values.copy()
        both[:young] *= by_delay
        weights = replace(weights, values=both)
    rows = archive.transactions.slice(0, count)
    trained = train(rows, archive.schema, recipe, weights.repeats(recipe.seed))
    return within_budget(trained, archive.transactions.slice(count), recipe)


def within_budget(trained: Trained, rows: pa.Table, recipe: Recipe) -> Trained:
    """Return the model with thresholds that keep its budgets on rows that it was not fitted on.

    Args:
      trained: the model.
      rows: n rows after the fitted ones, in time order; their labels are not used.
      recipe: its recipe; rules that need labels leave their thresholds as they are.
    """
    review, decline = recipe.rule, recipe.decline
    budgets = [rule.per_day for rule in (review, decline) if isinstance(rule, AlertBudget)]
    if not budgets or not rows.num_rows:
        return trained
    times = event_micros(rows)
    days = int(times[-1] - times[0]) / DAY
    if min(budgets) * days < _FEWEST_ALERTS:
        return trained
    with doing(f"scoring {rows.num_rows:,} rows that are too young to learn from"):
        scores = predict_scores(trained.model, feature_matrix(rows, trained.features))
    points = operating_points(np.zeros(len(scores), dtype=np.int8), scores, days)
    chosen, declined = trained.threshold, trained.decline
    try:
        if isinstance(review, AlertBudget):
            chosen = review.choose(points)
        if isinstance(decline, AlertBudget):
            declined = decline.choose(points, DECLINE_OPTION)
    except FraudError as error:
        _log.warning("thresholds are those of the validation rows: %s", error)
        return trained
    if declined is not None:
        declined = max(declined, chosen)
    flagged = int(np.count_nonzero(scores >= chosen))
    first, last = (moment_of(int(at)).isoformat() for at in (times[0], times[-1]))
    thresholds = Thresholds(chosen, declined)
    return replace(
        trained, budgeted=Budgeted(thresholds, len(scores), flagged / days, (first, last))
    )
