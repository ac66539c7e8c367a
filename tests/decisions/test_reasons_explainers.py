"""The contract of all explainers, and the explainer of each kind of model."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from beam_fraud.decisions.reasons.explainer import Explainer
from beam_fraud.decisions.reasons.forest import ForestExplainer
from beam_fraud.decisions.reasons.hist_gradient_boosting import HistGradientBoostingExplainer
from beam_fraud.decisions.reasons.linear import LinearExplainer
from beam_fraud.decisions.reasons.reasons import Reasons
from beam_fraud.decisions.reasons.registry import (
    LightGBMExplainer,
    OcclusionExplainer,
    XGBoostExplainer,
    explainer_of,
)
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds import KINDS
from beam_fraud.models.kinds.logistic import Logistic
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference, reference_of
from beam_fraud.models.small_blocks.joined_trees import JoinedForest
from beam_fraud.schema.schema import FeatureColumn, Schema

SCHEMA = Schema(
    name="test",
    roles={"event_time": "t", "amount": "a"},
    features=(FeatureColumn("speed"), FeatureColumn("mcc", "categorical", "allow")),
    calendar=False,
)
FEATURES = FeatureSet(SCHEMA, {"mcc": ("a", "b", "c", "d")})


def rows(n: int = 2000, seed: int = 0, absent: float = 0.05) -> LabelledRows:
    """Fast rows of large amounts in category 2 are frauds."""
    random = np.random.default_rng(seed)
    speed, mcc = random.normal(size=n), random.integers(0, 4, size=n).astype(float)
    amount = random.lognormal(0, 1, size=n)
    risk = speed + 2 * (mcc == 2) + amount + random.normal(size=n)
    matrix = np.column_stack([speed, mcc, amount])
    matrix[random.random(matrix.shape) < absent] = np.nan
    return LabelledRows(matrix, (risk > 3).astype(np.int8), categorical=(1,))


def installed(module: str, kind: str, **settings: Any) -> Any:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return getattr(importlib.import_module(module), kind)(**settings)


def imputed(model: Any) -> Pipeline:
    return make_pipeline(SimpleImputer(), model)


#: A model, whether its contributions are exact, and what explains it.
CASES: dict[str, tuple[Callable[[], Any], type]] = {
    "logistic": (lambda: Logistic().estimator(rows(), 0), LinearExplainer),
    "plain logistic": (lambda: imputed(LogisticRegression()), LinearExplainer),
    "forest": (lambda: KINDS["forest"].estimator(rows(), 0), ForestExplainer),
    "extra trees": (lambda: ExtraTreesClassifier(20), ForestExplainer),
    "tree": (lambda: DecisionTreeClassifier(max_depth=4), ForestExplainer),
    "boosting": (
        lambda: HistGradientBoostingClassifier(max_iter=20, categorical_features=[1]),
        HistGradientBoostingExplainer,
    ),
    "calibrated": (
        lambda: CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=5), cv=2),
        OcclusionExplainer,
    ),
    "gradient boosting": (lambda: imputed(GradientBoostingClassifier()), OcclusionExplainer),
    "products": (
        lambda: make_pipeline(SimpleImputer(), PolynomialFeatures(2), LogisticRegression()),
        OcclusionExplainer,
    ),
    "xgboost": (
        lambda: installed("xgboost", "XGBClassifier", n_estimators=20, n_jobs=1),
        XGBoostExplainer,
    ),
    "lightgbm": (
        lambda: installed("lightgbm", "LGBMClassifier", n_estimators=20, n_jobs=1, verbose=-1),
        LightGBMExplainer,
    ),
}


def reference(model: Any) -> Reference:
    return reference_of(rows().matrix, FEATURES, predict_scores(model, rows().matrix))


@pytest.fixture(scope="module", params=list(CASES))
def explained(request: pytest.FixtureRequest) -> tuple[Any, Explainer, type]:
    make, kind = CASES[request.param]
    model = make().fit(rows().matrix, rows().labels)
    return model, explainer_of(model, FEATURES, reference(model)), kind


def test_the_best_explainer_is_chosen(explained: tuple[Any, Explainer, type]) -> None:
    _, explainer, kind = explained
    assert type(explainer) is kind
    assert explainer.approximate == (kind in (ForestExplainer, OcclusionExplainer))
    assert (explainer.unit == "probability") == explainer.approximate


def test_the_features_of_a_fraud_have_raised_its_score(
    explained: tuple[Any, Explainer, type],
) -> None:
    _, explainer, _ = explained
    # Fast; of category 2; large; and the opposite of all.
    block = np.array([[3.0, 0, 0.5], [0, 2, 0.5], [0, 0, 6.0], [-3, 1, 0.1]])
    result = explainer.contributions(block)
    assert result.shape == (4, 3)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result[:3].argmax(axis=1), [0, 1, 2])
    assert (result[[0, 1, 2], [0, 1, 2]] > 0).all()
    assert result[3, 0] <= 0


def test_another_process_can_be_sent_reasons(explained: tuple[Any, Explainer, type]) -> None:
    _, explainer, _ = explained
    reasons = Reasons(explainer, FEATURES, np.ones(3), most=3)
    sent, block = pickle.loads(pickle.dumps(reasons)), rows(20).matrix
    # Categories have a place of no code.
    block[0, 1] = 7
    assert sent.of_rows(block) == reasons.of_rows(block)


def test_reasons_of_a_forest_bring_the_joined_trees_along_that_a_row_has_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, block = CASES["forest"][0]().fit(rows().matrix, rows().labels), rows(3).matrix
    explainer = ForestExplainer(model)
    expected, sent = explainer.contributions(block), pickle.dumps(explainer)
    # Joining takes longer than ten answers.
    monkeypatch.setattr(JoinedForest, "__init__", Mock(side_effect=AssertionError))
    np.testing.assert_array_equal(pickle.loads(sent).contributions(block), expected)


def test_a_row_is_explained_bit_for_bit_the_same_in_any_block(
    explained: tuple[Any, Explainer, type],
) -> None:
    model, explainer, _ = explained
    block = rows(300, seed=1).matrix
    together = explainer.contributions(block)
    one_by_one = np.array([explainer.contributions(block[i : i + 1])[0] for i in range(300)])
    # Scores of linear models, which occlusion is made of, depend on the block within 1e-12.
    bits = not (type(explainer) is OcclusionExplainer and isinstance(model, Pipeline))
    np.testing.assert_allclose(one_by_one, together, rtol=0, atol=0 if bits else 1e-12)
    assert np.isfinite(together).all()


@pytest.mark.parametrize("name", ["forest", "extra trees", "tree"])
def test_contributions_of_a_forest_add_up_to_the_score_less_its_roots(name: str) -> None:
    model = CASES[name][0]().fit(rows().matrix, rows().labels)
    block = rows(500, seed=2).matrix
    added = ForestExplainer(model).contributions(block).sum(axis=1)
    roots = [tree.tree_.value[0, 0] for tree in getattr(model, "estimators_", [model])]
    base = np.mean([value[1] / value.sum() for value in roots])
    np.testing.assert_allclose(base + added, predict_scores(model, block), rtol=0, atol=1e-12)


def test_contributions_of_a_regression_add_up_to_the_log_odds_less_their_mean() -> None:
    train = rows()
    model = CASES["logistic"][0]().fit(train.matrix, train.labels)
    explainer = LinearExplainer(model, np.zeros(3), reference(model), FEATURES)
    block = rows(500, seed=2).matrix
    block[0, 1], block[1, 1], block[2] = 4.0, np.nan, np.nan
    added = explainer.contributions(block).sum(axis=1)
    mean = model.decision_function(train.matrix).mean()
    np.testing.assert_allclose(added, model.decision_function(block) - mean, rtol=0, atol=1e-10)
    assert explainer.contributions(train.matrix).mean(axis=0) == pytest.approx(0, abs=1e-10)


def test_rare_categories_that_share_a_column_are_traced_to_their_feature() -> None:
    random = np.random.default_rng(0)
    mcc = np.minimum(random.geometric(0.2, 3000) - 1, 40).astype(float)
    other = random.normal(size=3000)
    labels = (other + (mcc == 2) + random.normal(size=3000) > 1.5).astype(np.int8)
    train = LabelledRows(np.column_stack([other, mcc, other]), labels, categorical=(1,))
    features = FeatureSet(SCHEMA, {"mcc": tuple(map(str, range(41)))})
    model = Logistic(max_categories=6).fit(train, 0)
    known = reference_of(train.matrix, features, np.zeros(1))
    result = LinearExplainer(model, np.zeros(3), known, features).contributions(train.matrix)
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-10)
    mean = model.decision_function(train.matrix).mean()
    np.testing.assert_allclose(
        result.sum(axis=1) + mean, model.decision_function(train.matrix), atol=1e-10
    )


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(20, random_state=0),
        HistGradientBoostingClassifier(max_iter=10, random_state=0),
    ],
)
def test_steps_of_a_pipeline_that_keep_columns_change_no_contribution(model: Any) -> None:
    train = rows(absent=0.0)
    scaled = make_pipeline(SimpleImputer(), model).fit(train.matrix, train.labels)
    result = explainer_of(scaled, FEATURES, Reference()).contributions(train.matrix[:50])
    plain = explainer_of(scaled[-1], FEATURES, Reference()).contributions(train.matrix[:50])
    np.testing.assert_array_equal(result, plain)


def test_an_imported_model_is_compared_with_0() -> None:
    model = imputed(GradientBoostingClassifier()).fit(rows().matrix, rows().labels)
    explainer = explainer_of(model, FEATURES, Reference())
    row = np.array([[2.0, 2.0, 5.0]])
    changed = np.array([[0.0, 2, 5], [2, 0, 5], [2, 2, 0]])
    expected = predict_scores(model, row) - predict_scores(model, changed)
    np.testing.assert_allclose(explainer.contributions(row)[0], expected, rtol=0, atol=1e-12)


def test_an_imported_regression_with_a_scaler_is_compared_with_its_mean() -> None:
    train = rows(absent=0.0)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train.matrix, train.labels)
    result = explainer_of(model, FEATURES, Reference()).contributions(train.matrix)
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize(("module", "name"), [("xgboost", "xgboost"), ("lightgbm", "lightgbm")])
def test_contributions_of_other_libraries_add_up_to_the_log_odds(module: str, name: str) -> None:
    pytest.importorskip(module)
    model = CASES[name][0]().fit(rows().matrix, rows().labels)
    block = rows(200, seed=3).matrix
    scores = predict_scores(model, block)
    added = explainer_of(model, FEATURES, Reference()).contributions(block).sum(axis=1)
    assert np.ptp(np.log(scores / (1 - scores)) - added) < 1e-4
