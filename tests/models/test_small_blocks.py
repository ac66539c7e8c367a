"""A predictor of small blocks gives the model's own scores in every bit."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from beam_fraud.models.calibration import Calibrated, Isotonic, Platt
from beam_fraud.models.estimators.imported import ImportedClassifier
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import KINDS
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference, reference_of
from beam_fraud.models.resampling.bagging import Bagged
from beam_fraud.models.resampling.under import PriorCorrected
from beam_fraud.models.small_blocks import predictor
from beam_fraud.models.small_blocks.joined_models import JoinedModels
from beam_fraud.models.small_blocks.predictor import MOST_ROWS, Predictor, probing_rows
from tests.models.test_kinds_contract import FEATURES, LATER, rows, small
from tests.one_thread import one_thread

#: Values at which trees may go wrong, and codes at which encoders may.
NUMBERS = (np.nan, 0.0, -0.0, 1.0, -1.0, 0.5, 255.0, 1e30, -1e30, 1e-310)
CODES = (np.nan, 0.0, -0.0, 1.0, 3.0, 4.0, -1.0, 0.5, 255.0, 256.0, 70_000.0)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def two_categories(n: int = 1200) -> LabelledRows:
    """Rows of six features, two of them categories, one with gaps between its codes."""
    random = np.random.default_rng(3)
    matrix = random.normal(size=(n, 6)).round(2)
    matrix[:, 1], matrix[:, 4] = random.integers(0, 9, n) * 3, random.integers(0, 60, n)
    risk = matrix[:, 0] * matrix[:, 2] + np.isin(matrix[:, 1], [3, 12]) + (matrix[:, 4] > 40)
    matrix[random.random(matrix.shape) < 0.05] = np.nan
    labels = (np.nan_to_num(risk) + random.normal(size=n) > 1.5).astype(np.int8)
    return LabelledRows(matrix, labels, categorical=(1, 4))


ONE = rows(600)
TWO = two_categories()
#: Numbers alone, none absent.
NUMBERS_ALONE = LabelledRows(np.nan_to_num(TWO.matrix), TWO.labels)
STEPS = np.array([0.0, 0.2, 0.7, 1.0])
FEW_TREES = {"n_estimators": 7, "random_state": 0}


def fit(name: str, data: LabelledRows, **settings: Any) -> Any:
    return replace(small(KINDS[name]), **settings).fit(data, seed=7)


def boosting(**settings: Any) -> Any:
    return HistGradientBoostingClassifier(
        categorical_features=list(TWO.categorical), random_state=0, **settings
    ).fit(TWO.matrix, TWO.labels)


def _kinds() -> dict[str, tuple[Callable[[], Any], LabelledRows]]:
    one = {name: (partial(fit, name, ONE), ONE) for name in KINDS}
    several = (
        "hist_gradient_boosting",
        "logistic",
        "isolation_forest",
        "forest",
        "lightgbm",
        "xgboost",
    )
    two = {f"{name}, two categories": (partial(fit, name, TWO), TWO) for name in several}
    plain = {
        f"{name}, numbers": (partial(fit, name, NUMBERS_ALONE), NUMBERS_ALONE)
        for name in ("logistic", "mlp")
    }
    # Trees of numbers alone have a form of their own for few rows, and words by their leaves.
    boosted = {
        f"boosting of numbers, {leaves} leaves": (
            partial(_boosting_of_numbers, leaves),
            NUMBERS_ALONE,
        )
        for leaves in (4, 8, 31, 64)
    }
    return one | two | plain | boosted


def _boosting_of_numbers(leaves: int) -> Any:
    return HistGradientBoostingClassifier(
        max_iter=20, max_leaf_nodes=leaves, min_samples_leaf=4, random_state=0
    ).fit(NUMBERS_ALONE.matrix, NUMBERS_ALONE.labels)


#: Name to the function that fits a model with a fast form, and its rows.
MODELS: dict[str, tuple[Callable[[], Any], LabelledRows]] = _kinds() | {
    name: (make, TWO)
    for name, make in {
        "isolation_forest, some features": lambda: fit("isolation_forest", TWO, max_features=0.5),
        "boosting, deep": lambda: boosting(max_iter=15, max_leaf_nodes=200),
        "xgboost, deep": lambda: fit("xgboost", TWO, depth=8, min_child_weight=0.1),
        "xgboost, numbers": lambda: _xgboost(TWO.matrix, TWO.labels),
        "boosting, 4 leaves": lambda: boosting(max_iter=20, max_leaf_nodes=4),
        "boosting, 64 leaves": lambda: boosting(max_iter=9, max_leaf_nodes=64, min_samples_leaf=2),
        "boosting, one tree": lambda: boosting(max_iter=1),
        "boosting, no split": lambda: boosting(max_iter=2, min_samples_leaf=2000),
        "forest, deep": lambda: _fit(RandomForestClassifier(**FEW_TREES)),
        "trees of chance": lambda: _fit(ExtraTreesClassifier(**FEW_TREES)),
        "tree": lambda: _fit(DecisionTreeClassifier(random_state=0)),
        "platt": lambda: Calibrated(_model("boosting, deep"), Platt(1.3, -0.4)),
        "isotonic": lambda: Calibrated(_model("forest, deep"), Isotonic(STEPS, STEPS**2)),
        "corrected": lambda: PriorCorrected(_model("boosting, deep"), 0.05),
        "bagged": lambda: PriorCorrected(
            Bagged([_model(name) for name in ("boosting, deep", "forest, deep", "tree")]), 0.3
        ),
        "bagged with others": lambda: Bagged(
            [_model("xgboost, deep"), _fit(DummyClassifier()), _model("tree")]
        ),
        "imported": lambda: ImportedClassifier(_model("boosting, deep"), features=6),
        "scaled by another step": lambda: _fit(
            make_pipeline(MinMaxScaler(), RandomForestClassifier(**FEW_TREES))
        ),
    }.items()
}


def _xgboost(matrix: np.ndarray, labels: np.ndarray) -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=30, n_jobs=1, base_score=0.3).fit(matrix, labels)


def _fit(model: Any) -> Any:
    return model.fit(TWO.matrix, TWO.labels)


def _model(name: str) -> Any:
    return fitted(name)[0]


@cache
def fitted(name: str) -> tuple[Any, LabelledRows, Predictor]:
    make, data = MODELS[name]
    model = make()
    return model, data, Predictor.of(model, data.matrix[:100])


def same(predict: Predictor, model: Any, block: np.ndarray) -> bool:
    scores = predict(block)
    assert scores.dtype == np.float64
    assert scores.shape == (len(block),)
    return scores.tobytes() == predict_scores(model, block).tobytes()


@pytest.mark.parametrize("name", list(MODELS))
def test_few_rows_have_the_models_own_scores(name: str) -> None:
    model, data, predict = fitted(name)
    assert not predict.own, predict.reason
    columns = data.matrix.T

    @settings(max_examples=8, deadline=None, database=None)
    @given(st.integers(1, MOST_ROWS), st.integers(0, 2**32 - 1))
    def check(size: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        block = np.column_stack([random.choice(column, size) for column in columns])
        share = random.choice([0, 0.2, 1])
        for place, column in enumerate(block.T):
            strange = random.random(size) < share
            values = CODES if place in data.categorical else NUMBERS
            column[strange] = random.choice(values, strange.sum())
        assert same(predict, model, block)
        assert same(predict, model, block[:1])
        assert same(predict, model, block[:2])

    check()


@pytest.mark.parametrize("name", list(MODELS))
def test_more_rows_and_infinite_numbers_are_left_to_the_model(name: str) -> None:
    model, data, predict = fitted(name)
    assert same(predict, model, data.matrix[: MOST_ROWS + 1])
    assert predict(data.matrix[:0]).shape == (0,)
    for number in (np.inf, -np.inf, 1e39):
        block = data.matrix[:2].copy()
        block[1, 0] = number
        try:
            expected = predict_scores(model, block)
        except ValueError:
            with pytest.raises(ValueError, match=r"infinity|too large"):
                predict(block)
        else:
            assert predict(block).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", list(MODELS))
def test_another_process_can_be_sent_a_predictor(name: str) -> None:
    model, data, predict = fitted(name)
    sent = pickle.loads(pickle.dumps(predict))
    assert not sent.own
    for block in (data.matrix[:1], data.matrix[:MOST_ROWS], data.matrix):
        assert same(sent, model, np.ascontiguousarray(block))


def test_thresholds_are_hit_exactly() -> None:
    boostings = ("boosting, deep", "boosting, 4 leaves", "boosting, 64 leaves")
    for name in (*boostings, "forest, deep", "trees of chance", "tree", "xgboost, deep"):
        model, data, predict = fitted(name)
        thresholds = predictor._form(model).thresholds
        assert any(len(values) > 3 for values in thresholds)
        edges = predictor.edge_rows(thresholds, data.matrix)
        for place, values in enumerate(thresholds):
            assert not np.isfinite(values).any() or np.isin(edges[:, place], values).any()
        for first in range(0, len(edges), 16):
            assert same(predict, model, edges[first : first + 16])
        assert same(predict, model, edges)


def test_absent_values_are_an_error_where_they_are_one_for_the_model() -> None:
    data = two_categories()
    model = LogisticRegression().fit(np.nan_to_num(data.matrix), data.labels)
    predict = Predictor.of(model, data.matrix)
    assert not predict.own
    assert same(predict, model, np.nan_to_num(data.matrix[:5]))
    with pytest.raises(ValueError, match="NaN"):
        predict(np.full((1, 6), np.nan))


def test_a_block_of_other_features_is_an_error_as_for_the_model() -> None:
    _, data, predict = fitted("boosting, deep")
    with pytest.raises(ValueError, match="features"):
        predict(np.ascontiguousarray(data.matrix[:1, :4]))


def test_a_model_that_changed_a_bit_is_not_used() -> None:
    model = small(KINDS["forest"]).fit(rows(600), seed=7)
    predict = Predictor.of(model, LATER.matrix[:100])
    assert not predict.own

    class Rounded(RandomForestClassifier):
        def predict_proba(self, block: np.ndarray) -> np.ndarray:
            return np.nextafter(super().predict_proba(block), 1)

    other = Rounded(**model.get_params()).fit(rows(600).matrix, rows(600).labels)
    assert Predictor.of(other, LATER.matrix[:100]).own
    other.__class__ = RandomForestClassifier
    tree = other.estimators_[0].tree_
    predict = Predictor.of(other, LATER.matrix[:100])
    assert not predict.own
    tree.value[:] = np.roll(tree.value, 1, axis=2)
    changed = Predictor.of(other, LATER.matrix[:100])
    assert changed.differs
    assert "RandomForestClassifier" in changed.reason


def test_the_threads_of_other_code_stay_as_they_are() -> None:
    model, data, _ = fitted("logistic")
    with threadpool_limits(2):
        before = threadpool_info()
        predict = Predictor.of(model, data.matrix[:20])
        predict(data.matrix[:1])
        predict(data.matrix)
        assert threadpool_info() == before


def test_an_unknown_model_predicts_by_itself() -> None:
    model = DummyClassifier(strategy="prior").fit(LATER.matrix, LATER.labels)
    predict = Predictor.of(model, LATER.matrix[:10])
    assert predict.own
    assert not predict.differs
    assert "DummyClassifier" in predict.reason
    assert same(predict, model, LATER.matrix[:3])


def test_probing_rows_come_from_the_training_rows() -> None:
    labelled = rows()
    reference = reference_of(labelled.matrix, FEATURES, np.array([0.1, 0.9]))
    probe = probing_rows(reference, FEATURES, 200)
    assert probe.shape == (200, 3)
    assert set(probe[:, 1][~np.isnan(probe[:, 1])]) == {0.0, 1.0, 2.0, 3.0, 4.0}
    edges = reference.distributions[2].edges
    assert set(edges) <= set(probe[:, 2])
    assert np.isnan(probe).any(axis=0).all()
    assert probing_rows(Reference(), FEATURES, 5).shape == (5, 3)


def test_several_models_of_the_same_features_predict_together() -> None:
    models = [fit("hist_gradient_boosting", NUMBERS_ALONE, trees=n) for n in (4, 9)]
    probe = NUMBERS_ALONE.matrix[:200]
    joined = JoinedModels.of(models, probe)
    assert joined is not None
    block = np.concatenate([NUMBERS_ALONE.matrix, TWO.matrix])
    for scores, model in zip(joined(block), models, strict=True):
        assert scores.tobytes() == predict_scores(model, block).tobytes()
    others = [fit("forest", NUMBERS_ALONE), fit("hist_gradient_boosting", TWO)]
    assert [JoinedModels.of([models[0], other], probe) for other in others] == [None, None]
