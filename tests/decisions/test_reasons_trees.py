"""Contributions in gradient boosting are the Shapley values of its trees."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from beam_fraud.decisions.reasons import tree_shapley
from beam_fraud.decisions.reasons import tree_shapley as leaf_tables
from beam_fraud.decisions.reasons.explainer import UnexplainableError
from beam_fraud.decisions.reasons.forest import ForestExplainer
from beam_fraud.decisions.reasons.hist_gradient_boosting import HistGradientBoostingExplainer
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.forest import Forest
from beam_fraud.models.kinds.hist_gradient_boosting import HistGradientBoosting
from tests.shapley_reference import reference_contributions


def rows(n: int = 3000, seed: int = 0) -> LabelledRows:
    """Two categorical columns, absent values, and features that interact."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(n, 6))
    matrix[:, 1], matrix[:, 5] = random.integers(0, 9, n), random.integers(0, 30, n)
    risk = matrix[:, 0] * matrix[:, 2] + np.isin(matrix[:, 1], [1, 4, 7]) - (matrix[:, 5] > 20)
    labels = (risk + random.normal(size=n) > 1).astype(np.int8)
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    return LabelledRows(matrix, labels, categorical=(1, 5))


def hostile(matrix: np.ndarray) -> np.ndarray:
    """Some of the rows, then values that training never had."""
    strange = matrix[:4].copy()
    strange[0] = np.nan
    strange[1, [1, 5]] = 9, 30
    strange[2, [0, 2]] = np.inf, -np.inf
    strange[3, [1, 5]] = 200, 1000
    return np.concatenate([matrix[:20], strange])


@pytest.fixture(scope="module")
def small() -> HistGradientBoostingClassifier:
    return HistGradientBoosting(trees=12).fit(rows(), 0)


@pytest.fixture(scope="module")
def wide() -> HistGradientBoostingClassifier:
    """Paths of more features than the tables hold."""
    random = np.random.default_rng(1)
    matrix = random.normal(size=(4000, 20))
    labels = (matrix.sum(axis=1) + random.normal(size=4000) > 3).astype(np.int8)
    return HistGradientBoostingClassifier(
        max_iter=10, max_leaf_nodes=150, min_samples_leaf=2, random_state=0
    ).fit(matrix, labels)


def test_contributions_are_shapley_values(small: HistGradientBoostingClassifier) -> None:
    block = hostile(rows(seed=1).matrix)
    result = HistGradientBoostingExplainer(small).contributions(block)
    expected = np.array([reference_contributions(small, row) for row in block])
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-13)
    assert (np.abs(expected).max(axis=0) > 1e-3).all(), "every feature matters"


@pytest.mark.parametrize("model", ["small", "wide"])
def test_contributions_add_up_to_the_log_odds_less_their_mean(
    model: str, request: pytest.FixtureRequest
) -> None:
    boosting = request.getfixturevalue(model)
    features = boosting.n_features_in_
    block = np.random.default_rng(2).normal(size=(200, features))
    added = HistGradientBoostingExplainer(boosting).contributions(block).sum(axis=1)
    mean = boosting.decision_function(block) - added
    nodes = [tree.nodes for (tree,) in boosting._predictors]
    weighted = sum(
        (n["value"] * n["count"])[n["is_leaf"] == 1].sum() / n["count"][0] for n in nodes
    )
    np.testing.assert_allclose(mean, weighted + boosting._baseline_prediction[0, 0], atol=1e-12)


def test_wide_leaves_without_tables_give_the_same(
    small: HistGradientBoostingClassifier,
    wide: HistGradientBoostingClassifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(HistGradientBoostingExplainer(wide)._shapley._slots) > leaf_tables._WIDEST
    block = hostile(rows(seed=1).matrix)
    tabulated = HistGradientBoostingExplainer(small).contributions(block)
    for largest in (1_000, 0):
        monkeypatch.setattr(leaf_tables, "_LARGEST", largest)
        result = HistGradientBoostingExplainer(small).contributions(block)
        np.testing.assert_allclose(result, tabulated, rtol=0, atol=1e-13)


@pytest.mark.parametrize("model", ["small", "wide"])
def test_a_row_is_explained_bit_for_bit_the_same_in_any_block(
    model: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    boosting = request.getfixturevalue(model)
    block = np.random.default_rng(3).normal(size=(50, boosting.n_features_in_))
    explainer = HistGradientBoostingExplainer(boosting)
    together = explainer.contributions(block)
    one_by_one = [explainer.contributions(block[i : i + 1])[0] for i in range(len(block))]
    np.testing.assert_array_equal(together, one_by_one)
    monkeypatch.setattr(tree_shapley, "_TOGETHER", 7)
    np.testing.assert_array_equal(explainer.contributions(block), together)


def test_a_model_that_never_splits_has_no_contributions() -> None:
    flat = HistGradientBoostingClassifier(max_iter=3).fit(np.zeros((50, 2)), np.arange(50) % 2)
    result = HistGradientBoostingExplainer(flat).contributions(np.ones((3, 2)))
    np.testing.assert_array_equal(result, np.zeros((3, 2)))


def test_trees_of_an_unknown_layout_are_not_explained() -> None:
    class Changed:
        n_features_in_ = 3

    with pytest.raises(UnexplainableError, match="Changed"):
        HistGradientBoostingExplainer(Changed())


def test_trees_that_do_not_add_up_to_the_scores_are_not_explained(
    small: HistGradientBoostingClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = small.decision_function
    monkeypatch.setattr(small, "decision_function", lambda block: 2 * known(block))
    with pytest.raises(UnexplainableError, match="do not add up"):
        HistGradientBoostingExplainer(small)


def test_the_tables_of_a_huge_model_stay_small() -> None:
    sizes = np.full(100_000, 7)
    assert leaf_tables.widest_table(sizes) == 6
    assert leaf_tables.widest_table(sizes[:1000]) == leaf_tables._WIDEST


def test_few_rows_with_any_values_have_the_contributions_of_many(
    small: HistGradientBoostingClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = hostile(rows(seed=4).matrix)
    explainer = HistGradientBoostingExplainer(small)
    with monkeypatch.context() as many:
        many.setattr(tree_shapley, "FEW_CONDITIONS", 0)
        together = explainer.contributions(block)
    for few in (1, 3, 8, len(block)):
        parts = [explainer.contributions(block[i : i + few]) for i in range(0, len(block), few)]
        assert np.concatenate(parts).tobytes() == together.tobytes()


def test_few_rows_have_the_contributions_of_many_in_a_forest() -> None:
    labelled = rows()
    forest = Forest(trees=9).fit(labelled, 0)
    explainer = ForestExplainer(forest)
    block = np.tile(np.clip(hostile(rows(seed=4).matrix), -1e30, 1e30), (3, 1))
    assert len(block) > 64
    together = explainer.contributions(block)
    for few in (1, 3, 64):
        parts = [explainer.contributions(block[i : i + few]) for i in range(0, len(block), few)]
        assert np.concatenate(parts).tobytes() == together.tobytes()
