"""Costs, calibration, days, weeks and importances on rows that a reader can count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from beam_fraud.errors import UsageError
from beam_fraud.evaluation.curves import calibration_of, costs_of, parse_cost, score_histogram
from beam_fraud.evaluation.importance import affordable_rows, permutation_importance, sample_of
from beam_fraud.evaluation.periods import days_of, population_stability, stability_of
from beam_fraud.evaluation.rows import EvaluatedRows
from beam_fraud.models.handbook import card_precision
from beam_fraud.models.reference import Reference, count_bins
from beam_fraud.models.threshold import LeastCost
from beam_fraud.schema.duration import DAY

LABELS = np.array([1, 0, 1, 0, 0], dtype=np.int8)
SCORES = np.array([0.9, 0.8, 0.7, 0.2, 0.1])
AMOUNTS = np.array([10.0, 5.0, 300.0, 5.0, 5.0])


def test_costs_are_of_misses_and_false_alarms() -> None:
    costs = costs_of(LABELS, SCORES, AMOUNTS, 0.85, LeastCost(100, 3))
    by_threshold = dict(zip(costs.fixed.thresholds, costs.fixed.costs, strict=True))
    assert by_threshold == {0.9: 100, 0.8: 103, 0.7: 3, 0.2: 6, 0.1: 9}
    assert (costs.fixed.in_use, costs.fixed.nothing_flagged) == (100, 200)
    assert (costs.fixed.least, costs.fixed.best_threshold) == (3, 0.7)
    assert (costs.by_amount.in_use, costs.by_amount.nothing_flagged) == (300, 310)


def test_flagging_nothing_may_cost_least() -> None:
    labels = np.array([0, 0, 0, 1], dtype=np.int8)
    costs = costs_of(labels, np.array([0.9, 0.8, 0.7, 0.1]), np.ones(4), 0.5, LeastCost(1, 5))
    assert (costs.fixed.least, costs.fixed.best_threshold) == (1, None)


def test_a_refund_that_is_missed_costs_nothing() -> None:
    costs = costs_of(LABELS, SCORES, -AMOUNTS, 0.85, LeastCost(100, 3))
    assert costs.by_amount.nothing_flagged == 0


@pytest.mark.parametrize("text", ["", "5", "a:b", "0:1", "1:-1", "1:2:3", "inf:1"])
def test_prices_are_two_numbers_above_0(text: str) -> None:
    with pytest.raises(UsageError, match="--cost"):
        parse_cost(text)


def test_calibrated_scores_have_small_errors_and_bins_hold_all_rows() -> None:
    random = np.random.default_rng(0)
    scores = random.beta(0.3, 3, 20_000)
    labels = (random.random(20_000) < scores).astype(np.int8)
    result = calibration_of(labels, scores)
    assert result.brier == pytest.approx(brier_score_loss(labels, scores))
    assert result.expected_calibration_error < 0.01
    assert sum(b.rows for b in result.bins) == 20_000
    assert sum(b.frauds for b in result.bins) == labels.sum()
    within = [b.rate_low <= b.mean_score <= b.rate_high for b in result.bins]
    assert np.mean(within) > 0.7
    twice = calibration_of(labels, np.sqrt(scores))
    assert twice.expected_calibration_error > 0.1
    assert twice.brier > result.brier


@pytest.mark.parametrize("scores", [np.full(10, 0.3), np.linspace(0, 1, 10)])
def test_ten_rows_can_be_calibrated(scores: np.ndarray) -> None:
    for label in (0, 1):
        result = calibration_of(np.full(10, label, dtype=np.int8), scores)
        assert [b.fraud_rate for b in result.bins] == [label] * len(result.bins)
        assert all(0 <= b.rate_low <= b.rate_high <= 1 for b in result.bins)


def test_a_histogram_counts_every_row() -> None:
    histogram = score_histogram(LABELS, np.array([0.0, 1.0, 1.0, 0.5, 0.5]))
    assert (histogram.genuine.sum(), histogram.frauds.sum()) == (3, 2)


def test_days_count_flagged_rows_and_caught_frauds() -> None:
    rows = EvaluatedRows(
        labels=LABELS,
        times=np.array([0, 1, DAY, 3 * DAY, 3 * DAY + 1]),
        amounts=AMOUNTS,
        accounts=np.array([0, 1, 2, 3, 4]),
    )
    days = days_of(rows, SCORES, 0.75, cards=1)
    assert [d.date for d in days] == ["1970-01-01", "1970-01-02", "1970-01-04"]
    assert [(d.rows, d.frauds, d.alerts, d.caught) for d in days] == [
        (2, 1, 2, 1),
        (1, 1, 0, 0),
        (2, 0, 0, 0),
    ]
    assert [d.precision for d in days] == [0.5, None, None]
    assert [d.card_precision for d in days] == [1, 1, 0]
    assert rows.accounts is not None
    overall = card_precision(rows.times, rows.accounts, LABELS, SCORES, most=1)
    assert np.mean([d.card_precision for d in days]) == overall
    without = days_of(replace(rows, accounts=None), SCORES, 0.75, cards=1)
    assert [d.card_precision for d in without] == [None] * 3


def test_weeks_start_on_mondays_and_a_shift_of_scores_shows() -> None:
    random = np.random.default_rng(0)
    size = 2000
    # 1970-01-05 was a Monday.
    times = np.repeat([4 * DAY - 1, 4 * DAY, 11 * DAY], size)
    scores = np.concatenate([random.beta(1, b, size) for b in (9, 9, 4)])
    labels = (random.random(3 * size) < scores).astype(np.int8)
    rows = EvaluatedRows(labels, times, np.ones(3 * size), None)
    result = stability_of(rows, scores, 0.5, Reference())
    assert result.reference == "first week"
    assert [week.start for week in result.weeks] == ["1969-12-29", "1970-01-05", "1970-01-12"]
    assert [week.rows for week in result.weeks] == [size] * 3
    assert result.weeks[0].score_shift == 0
    assert result.weeks[1].score_shift < 0.05
    assert result.weeks[2].score_shift > 0.25
    assert sum(w.alert_rate for w in result.weeks) == pytest.approx(3 * np.mean(scores >= 0.5))
    trained = Reference((count_bins("score", scores[-size:], (0.1, 0.2, 0.4)),))
    again = stability_of(rows, scores, 0.5, trained)
    assert again.reference == "training"
    assert again.weeks[2].score_shift == 0


def test_an_empty_bin_does_not_make_the_shift_infinite() -> None:
    assert 0 < population_stability(np.array([100, 0]), np.array([50, 50])) < 10


def test_the_predictive_feature_has_the_largest_importance_and_noise_none() -> None:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(3000, 3))
    labels = (matrix[:, 1] + random.normal(scale=0.3, size=3000) > 2).astype(np.int8)
    model = LogisticRegression().fit(matrix, labels)
    sample = sample_of(labels, 1000, 0)
    assert len(sample.rows) == 1000
    assert sample.weights[labels[sample.rows] == 1] == pytest.approx(1)
    assert sample.weights.sum() == pytest.approx(3000)
    result = [
        permutation_importance(
            model, matrix[sample.rows], labels[sample.rows], sample.weights, ["a", "b", "c"], seed
        )
        for seed in (1, 1)
    ]
    assert result[0] == result[1]
    assert result[0] is not None
    first, *others = result[0].features
    assert (first.feature, first.loss > 0.5) == ("b", True)
    assert all(abs(f.loss) < 0.1 for f in others)


def test_importance_takes_one_class_constant_scores_and_few_rows() -> None:
    matrix, ones = np.arange(10.0)[:, None], np.ones(10)
    labels = (matrix[:, 0] > 6).astype(np.int8)
    constant = DummyClassifier(strategy="prior").fit(matrix, labels)
    result = permutation_importance(constant, matrix, labels, ones, ["x"], 0)
    assert result is not None
    assert result.features[0].loss == 0
    assert permutation_importance(constant, matrix, labels * 0, ones, ["x"], 0) is None
    assert len(sample_of(labels, 1000, 0).rows) == 10
    assert len(sample_of(labels * 0 + 1, 5, 0).rows) == 5


def test_slow_models_are_shuffled_on_fewer_rows() -> None:
    assert affordable_rows(1, 10) > affordable_rows(100, 30) >= affordable_rows(1e6, 300) > 0
