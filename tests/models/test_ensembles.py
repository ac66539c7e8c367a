"""Averages and stacks of several kinds, and their options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.calibration import log_odds
from beam_fraud.models.choosing import settle
from beam_fraud.models.estimators.anomalies import MOST_KNOTS, CategoryShares, EmpiricalRank
from beam_fraud.models.estimators.ensemble import forward_cuts, forward_scores, mean_log_odds
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import ModelKind, model_kind
from beam_fraud.models.kinds.ensemble import Average, RankAverage, Stacking, best_weights
from beam_fraud.models.kinds.isolation_forest import IsolationForest
from beam_fraud.models.predict import predict_scores
from tests.failing import fails


class Column(ClassifierMixin, BaseEstimator):
    """A model that scores by one column and records its first column."""

    def __init__(self, column: int = 1, power: float = 1.0) -> None:
        self.column = column
        self.power = power

    def fit(self, matrix: np.ndarray, labels: np.ndarray) -> Column:
        FITTED.append(matrix[:, 0].copy())
        self.classes_ = np.unique(labels)
        return self

    def predict_proba(self, matrix: np.ndarray) -> np.ndarray:
        PREDICTED.append((FITTED[-1], matrix[:, 0].copy()))
        fraud = expit(matrix[:, self.column]) ** self.power
        return np.column_stack([1 - fraud, fraud])


#: The ids in the first column of what was fitted on, and of what was predicted after which fit.
FITTED: list[np.ndarray] = []
PREDICTED: list[tuple[np.ndarray, np.ndarray]] = []


@dataclass(frozen=True)
class ColumnKind(ModelKind):
    """The kind of that model."""

    name: ClassVar[str] = "column"
    column: int = 1
    power: float = 1.0

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        return Column(self.column, self.power)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    FITTED.clear()
    PREDICTED.clear()
    with threadpool_limits(1):
        yield


def rows(n: int = 4000, seed: int = 0) -> LabelledRows:
    """An id, two noisy views of the odds of fraud, and a column of noise."""
    random = np.random.default_rng(seed)
    odds = random.normal(-3, 2, n)
    labels = (random.random(n) < expit(odds)).astype(np.int8)
    views = [odds + random.normal(0, 1, n) for _ in range(2)]
    return LabelledRows(np.column_stack([np.arange(n), *views, random.normal(0, 2, n)]), labels)


GOOD, ALSO_GOOD, NOISE = ColumnKind(column=1), ColumnKind(column=2), ColumnKind(column=3)


def precision(kind: ModelKind) -> float:
    later = rows(seed=1)
    scores = predict_scores(kind.fit(rows(), seed=0), later.matrix)
    return float(average_precision_score(later.labels, scores))


@pytest.mark.parametrize("ensemble", [Average(), RankAverage(), Stacking()])
def test_an_ensemble_is_better_than_its_members(ensemble: ModelKind) -> None:
    both = precision(ensemble.of([GOOD, ALSO_GOOD]))
    assert both > max(precision(GOOD), precision(ALSO_GOOD)) + 0.02


@pytest.mark.parametrize("ensemble", [Average(), RankAverage(), Stacking()])
def test_a_score_does_not_depend_on_the_rows_beside_it(ensemble: ModelKind) -> None:
    model, later = ensemble.of([GOOD, NOISE]).fit(rows(), seed=0), rows(seed=1).matrix[:50]
    alone = np.concatenate([predict_scores(model, row[None]) for row in later])
    assert np.array_equal(alone, predict_scores(model, later))


def test_an_average_is_the_mean_of_log_odds() -> None:
    members = [np.array([0.2, 0.9, 0.0]), np.array([0.6, 0.5, 1.0])]
    expected = expit((log_odds(members[0]) + 3 * log_odds(members[1])) / 4)
    assert np.allclose(mean_log_odds(members, (1, 3)), expected)
    equal = mean_log_odds(members)
    assert np.array_equal(equal, mean_log_odds(members, (0, 0)))
    assert equal[2] == pytest.approx(0.5)


def test_weights_stay_equal_unless_others_are_clearly_better() -> None:
    valid = rows(seed=1)
    good, also_good, noise = (expit(valid.matrix[:, i]) for i in (1, 2, 3))
    assert best_weights(valid.labels, [good, also_good], 0.01, seed=0) == (0.5, 0.5)
    weights = best_weights(valid.labels, [good, also_good, noise], 0.01, seed=0)
    assert sum(weights) == 1
    assert weights[2] == 0
    assert best_weights(valid.labels, [good, noise], 1.0, seed=0) == (0.5, 0.5)


def test_luck_with_few_frauds_moves_no_weights() -> None:
    # Both are as good, and among ten frauds the better one is whichever was lucky.
    for seed in range(10):
        valid = rows(seed=seed)
        few = np.append(np.flatnonzero(valid.labels)[:10], np.flatnonzero(valid.labels == 0))
        scores = [expit(valid.matrix[few, i]) for i in (1, 2)]
        assert best_weights(valid.labels[few], scores, 0.0, seed=0) == (0.5, 0.5)


def test_an_average_takes_its_weights_from_the_validation_rows_alone() -> None:
    kind, scores = Average().of([GOOD, NOISE]).validate(rows(), rows(seed=1), seed=0)
    assert isinstance(kind, Average)
    assert kind.weights[0] > kind.weights[1]
    assert np.array_equal(scores, predict_scores(kind.fit(rows(), seed=0), rows(seed=1).matrix))
    options = replace(kind, weights=(1.0, 2.0))
    assert options.validate(rows(), rows(seed=1), seed=0)[0] == options


def test_weights_of_folds_that_disagree_still_make_an_average() -> None:
    kinds = [Average((GOOD, ALSO_GOOD, NOISE), weights=tuple(w.tolist())) for w in np.eye(3)]
    settled = settle(kinds)
    equal = Average((GOOD, ALSO_GOOD, NOISE))
    assert precision(settled) == precision(equal)


@pytest.mark.parametrize("ensemble", [RankAverage(), Stacking()])
def test_members_are_combined_by_scores_of_later_rows(ensemble: ModelKind) -> None:
    ensemble.of([GOOD, NOISE]).fit(rows(), seed=0)
    assert PREDICTED
    for fitted, predicted in PREDICTED:
        assert fitted.max() < predicted.min()
    # In the end every member is fitted on all rows.
    assert [len(ids) for ids in FITTED[-2:]] == [4000, 4000]


def test_a_stack_weighs_good_members_more() -> None:
    model = Stacking().of([GOOD, NOISE]).fit(rows(), seed=0)
    good, noise = model.coefficients_
    assert good > 0.5
    assert abs(noise) < 0.1


def test_cuts_leave_frauds_in_every_part() -> None:
    labels = np.zeros(1000, dtype=np.int8)
    labels[[100, 110, 120, 900]] = 1
    assert forward_cuts(labels, 0.5, 2) == [111, 121, 1000]
    scores = forward_scores(Column(), rows(1000).matrix, labels, [111, 121, 1000])
    assert len(scores) == 889


@pytest.mark.parametrize("frauds", [[], [5], [3, 4], range(1000), range(500, 1000), range(500)])
def test_too_few_of_a_class_are_an_error_of_one_line(frauds: list[int]) -> None:
    labels = np.zeros(1000, dtype=np.int8)
    labels[list(frauds)] = 1
    with fails(Code.CLASSES_MISSING, r"1000 rows with \d+ frauds .* 4 parts"):
        forward_cuts(labels, 0.5, 3)


def test_ranks_are_fixed_and_monotone_also_beyond_the_training_scores() -> None:
    seen = np.random.default_rng(0).beta(1, 50, size=30_000).round(6)
    rank = EmpiricalRank.of(seen)
    assert len(rank.scores) <= MOST_KNOTS + 2
    assert rank(np.array([0.0, 1.0])).tolist() == [0, 1]
    grid = np.linspace(0, 1, 1001)
    assert (np.diff(rank(grid)) > 0).all()
    assert rank(np.array([np.median(seen)]))[0] == pytest.approx(0.5, abs=0.001)
    # The highest scores differ one by one.
    highest = np.unique(seen)[-1000:]
    shares = np.searchsorted(np.sort(seen), highest, side="right") / len(seen)
    assert np.allclose(rank(highest), shares, atol=1e-4)
    assert np.isfinite(EmpiricalRank.of(np.array([0.0, 0.0, 1.0]))(grid)).all()


def test_members_are_named_on_the_command_line() -> None:
    kind = model_kind("average:forest+forest+logistic", ["forest_2.trees=7", "weights=1,2,1"])
    assert kind.settings["forest.trees"] == 100
    assert kind.settings["forest_2.trees"] == 7
    assert kind.settings["weights"] == (1.0, 2.0, 1.0)
    assert kind.settings["logistic.c"] == 1.0
    assert "members" not in kind.settings
    assert kind.name == "average"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("stacking:forest", [], "needs two members or more, as in stacking:forest"),
        ("average:forest+forrest", [], "did you mean forest"),
        ("forest:logistic+forest", [], "forest: has no members"),
        ("average", ["forest.tree=7"], "of forest's settings: trees"),
        ("average", ["logistic.c=7"], "of average's settings: weights, tolerance, forest.…"),
        ("average", ["weights=1,2,3,4,5,6,7,8"], "8 of them for"),
        ("average", ["weights=1,x"], "weights is numbers with commas between them"),
        ("average:forest+logistic", ["weights=1,-1"], "numbers from 0 on"),
        ("average:forest+logistic", ["weights=1,inf"], "numbers from 0 on"),
        ("stacking", ["folds=0"], "folds=0: must be at least 1"),
        ("stacking", ["c=nan"], "c=nan: must be above 0"),
        ("isolation_forest", ["trees=0"], "trees=0: must be at least 1"),
        ("isolation_forest", ["max_features=2"], "max_features=2: must be above 0, up to 1"),
    ],
)
def test_invalid_ensembles_are_refused(name: str, settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model_kind(name, settings)


def test_an_ensemble_can_be_cloned_and_fitted_again() -> None:
    kind = Average().of([GOOD, NOISE])
    model, data = kind.fit(rows(), seed=0), rows(seed=2)
    again = clone(model)
    assert not hasattr(again, "members_")
    scores = predict_scores(again.fit(rows().matrix, rows().labels), data.matrix)
    assert np.array_equal(scores, predict_scores(model, data.matrix))


def unusual(n: int = 3000) -> LabelledRows:
    """One row in fifty has large numbers; half of those have a rare category."""
    random = np.random.default_rng(0)
    labels = (np.arange(n) % 50 == 0).astype(np.int8)
    matrix = random.normal(size=(n, 4)) + 3 * labels[:, None]
    codes = np.where(labels & (random.random(n) < 0.5), 3, random.integers(0, 3, n)).astype(float)
    matrix[random.random((n, 4)) < 0.05] = np.nan
    return LabelledRows(np.column_stack([matrix, codes]), labels, (4,))


def test_an_isolation_forest_finds_the_unusual_without_labels() -> None:
    data = unusual()
    scores = predict_scores(IsolationForest().fit(data, seed=0), data.matrix)
    assert average_precision_score(data.labels, scores) > 0.6
    blind = LabelledRows(data.matrix, np.zeros_like(data.labels), data.categorical)
    assert np.array_equal(scores, predict_scores(IsolationForest().fit(blind, 0), data.matrix))
    # A score is the share of fitted rows that are less anomalous.
    assert np.quantile(scores, 0.9) == pytest.approx(0.9, abs=0.01)


def test_a_category_is_as_usual_as_it_is_common() -> None:
    codes = np.array([[0.0], [0.0], [1.0], [np.nan]])
    shares = CategoryShares().fit(codes)
    result = shares.transform(np.array([[0.0], [1.0], [np.nan], [2.0], [99.0]]))
    assert result[:, 0].tolist() == [0.5, 0.25, 0.25, 0.0, 0.0]
