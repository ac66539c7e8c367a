"""Predict a few rows at once, with the bits of the model's own predictions.

A model's own prediction of one row costs hundreds of microseconds: the checks of its arguments, and
a call for each of its trees. A bundle's models are computed here from the same numbers in the same
order, by fewer calls; a model that has no such form, or whose scores differ in a bit on probing
rows, predicts by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.calibration import Calibrated
from beam_fraud.models.estimators.anomalies import RankedAnomalies
from beam_fraud.models.estimators.ensemble import (
    LogitAverage,
    Member,
    RankAverage,
    StackedLogits,
)
from beam_fraud.models.estimators.imported import ImportedClassifier, LightGBMBooster
from beam_fraud.models.foreign import reason_of
from beam_fraud.models.network.classifier import KerasClassifier
from beam_fraud.models.predict import predict_scores, use_one_thread
from beam_fraud.models.reference import Reference
from beam_fraud.models.resampling.bagging import Bagged
from beam_fraud.models.resampling.under import PriorCorrected, corrected
from beam_fraud.models.small_blocks.columns import Columns, columns_of
from beam_fraud.models.small_blocks.joined_trees import (
    JoinedBoosting,
    JoinedForest,
    joined_forest,
)

Floats = npt.NDArray[np.float64]
#: From float64[n, features] to float64[n] scores.
Scores = Callable[[Floats], Floats]

#: Rows up to which the fast form is used.
MOST_ROWS = 64
#: Larger numbers are infinite in the single precision of some trees: the model itself decides.
_LARGEST = float(np.finfo(np.float32).max)
#: LightGBM's classifier by name, because it is optional and slow to import.
_LIGHTGBM = ("lightgbm.sklearn", "LGBMClassifier")
#: Probing rows that are also predicted one by one.
_SINGLE_ROWS = 16


class _BeyondRangeError(Exception):
    """The steps before a model made a number that the model refuses, or may refuse."""


def _beyond_range(block: Floats) -> bool:
    return bool((np.abs(block) > _LARGEST).any())


class Predictor:
    """The scores of a model, exact for any rows and fast for few."""

    def __init__(
        self, model: Any, features: int, fast: Scores | None, reason: str, absent: bool
    ) -> None:
        self._model = model
        self._features = features
        self._fast = fast
        self._absent = absent
        #: Why the model predicts by itself; "" if it has a fast form.
        self.reason = reason

    @classmethod
    def of(cls, model: Any, probe: Floats) -> Predictor:
        """Return the predictor of a model.

        Args:
          model: a classifier for `predict_scores`.
          probe: float64[n, features], n > 0, such as `probing_rows`; the fast form has to give
            these rows, and others at and beyond the thresholds of its trees, the model's scores.
        """
        use_one_thread()
        features = probe.shape[1]
        try:
            fast, thresholds = _form(model)
        except Exception as error:  # private parts of other versions may raise anything
            return cls(model, features, None, reason_of(error), absent=False)
        # Extreme numbers overflow, in both forms.
        with np.errstate(all="ignore"):
            absent = _takes(model, np.full((1, features), np.nan))
            extreme = [row for row in _extreme_rows(features) if _takes(model, row)]
            rows = np.concatenate([probe, *extreme, _edge_rows(thresholds, probe)])
            rows = rows if absent else rows[~np.isnan(rows).any(axis=1)]
            try:
                reason = _difference(model, fast, rows)
            except Exception as error:
                reason = reason_of(error)
        return cls(model, features, None if reason else fast, reason, absent)

    @property
    def own(self) -> bool:
        """Whether the model predicts blocks of any size by itself."""
        return self._fast is None

    def __call__(self, block: Floats) -> Floats:
        """Return the scores of `predict_scores(model, block)`, in every bit.

        Args:
          block: float64[n, features], C-contiguous, NaN where a value is absent.
        """
        if self._fast is not None and self._fits(block):
            with suppress(_BeyondRangeError):
                return self._fast(block)
        use_one_thread()
        return predict_scores(self._model, block)

    def _fits(self, block: Floats) -> bool:
        rows = len(block)
        if not 0 < rows <= MOST_ROWS or block.shape != (rows, self._features):
            return False
        if _beyond_range(block):
            return False
        return self._absent or not np.isnan(block).any()


def probing_rows(reference: Reference, features: FeatureSet, rows: int = 256) -> Floats:
    """Return random rows of values that a model's training rows had.

    Args:
      reference: the model's reference distributions; empty if unknown.
      features: the model's features.
      rows: how many.

    Returns:
      float64[rows, features]: bounds of the bins, numbers between and beyond them, known and
      unknown categories, and NaN.
    """
    random = np.random.default_rng(0)
    known = {distribution.feature: distribution for distribution in reference.distributions}
    columns = []
    for place, name in enumerate(features.names):
        edges = np.array(known[name].edges if name in known else ())
        if place in features.categorical:
            values = np.arange(len(features.categories.get(name, ())) + 1.0)
        else:
            between = (edges[1:] + edges[:-1]) / 2
            values = np.concatenate([edges, between, edges * 1.5, [-1.0, 0.0, 0.5, 1.0, 1000.0]])
        column = random.choice(values, size=rows)
        columns.append(np.where(random.random(rows) < 0.1, np.nan, column))
    return np.column_stack(columns)


def _extreme_rows(features: int) -> list[Floats]:
    values = (np.nan, 0.0, -0.0, 1e30, -1e30, 1e-300, 255.0, 256.0, -1.0, 0.5)
    return [np.full((1, features), value) for value in values]


def _edge_rows(thresholds: Sequence[Floats], probe: Floats) -> Floats:
    """Return rows whose values are thresholds, and rows of the next numbers on both sides."""
    random = np.random.default_rng(0)
    # A split by absence alone has an infinite threshold.
    thresholds = [values[np.abs(values) < _LARGEST] for values in thresholds]
    size = min(256, max(map(len, thresholds), default=0))
    if not size:
        return probe[:0]
    rows = probe[random.integers(0, len(probe), size=size)]
    for place, values in enumerate(thresholds):
        if len(values):
            rows[:, place] = random.choice(values, size=size)
    return np.concatenate([rows, np.nextafter(rows, np.inf), np.nextafter(rows, -np.inf)])


def _takes(model: Any, row: Floats) -> bool:
    """Return whether the model has a score for a row."""
    try:
        predict_scores(model, row)
    except Exception:  # without an imputer NaN is an error, and so may be an unlikely code
        return False
    return True


def _difference(model: Any, fast: Scores, rows: Floats) -> str:
    """Return how two forms of a model differ in a bit; "" if they do not."""
    blocks = [rows, rows[:MOST_ROWS], rows[: MOST_ROWS // 2 + 1], rows[:7], rows[:2]]
    blocks += [row[None, :] for row in rows[:: max(1, len(rows) // _SINGLE_ROWS)]]
    for block in map(np.ascontiguousarray, blocks):
        expected, scores = predict_scores(model, block), fast(block)
        if expected.tobytes() != scores.tobytes():
            unlike = np.count_nonzero(expected.view(np.int64) != scores.view(np.int64))
            return f"{type(model).__name__}: {unlike} of {len(block)} probing rows differ"
    return ""


def _form(model: Any) -> tuple[Scores, Sequence[Floats]]:
    """Return the fast form of a model, and the thresholds of each feature where trees split rows.

    Raises:
      TypeError: the model has none.
    """
    kind = type(model)
    if kind is ImportedClassifier and model.plain is not None:
        return _form(model.plain)
    if kind is Member:
        return _form(model.model_)
    if kind is Pipeline:
        return _after_steps(model)
    if kind is HistGradientBoostingClassifier:
        boosting = JoinedBoosting(model)
        return lambda block: np.asarray(expit(boosting.log_odds(block))), boosting.thresholds
    if kind in (RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier):
        return _forest(model)
    if kind is LogisticRegression:
        return _logistic(model), ()
    if kind is MLPClassifier:
        return lambda block: model._forward_pass_fast(block, check_input=False).ravel(), ()
    if kind is KerasClassifier:
        return model.network_.scores, ()
    if kind is LightGBMBooster or (kind.__module__, kind.__name__) == _LIGHTGBM:
        return _lightgbm(model), ()
    if kind is RankedAnomalies:
        return _ranked(model)
    return _combined(model)


def _combined(model: Any) -> tuple[Scores, Sequence[Floats]]:
    """Return the fast form of a model around other models."""
    kind = type(model)
    if kind in (Calibrated, PriorCorrected):
        inner, thresholds = _form(model.model)
        if kind is Calibrated:
            return lambda block: model.calibration(inner(block)), thresholds
        return lambda block: corrected(inner(block), model.kept), thresholds
    if kind is Bagged:
        members = _members(model.models)
        return lambda block: _sum([member(block) for member in members]) / len(members), ()
    if kind in (LogitAverage, RankAverage, StackedLogits):
        members = _members([member for _, member in model.members_])
        return lambda block: model.combine([member(block) for member in members]), ()
    raise TypeError(f"{kind.__name__} has no fast form")


def _members(models: Sequence[Any]) -> list[Scores]:
    """Return the form of each member, its own predictions where it has no fast one.

    Raises:
      TypeError: none has.
    """
    forms: list[Scores] = []
    for model in models:
        try:
            forms.append(_form(model)[0])
        except TypeError:
            forms.append(lambda block, model=model: predict_scores(model, block))  # type: ignore[misc]
    return forms


def _sum(parts: Sequence[Floats]) -> Floats:
    total = np.zeros_like(parts[0])
    for part in parts:
        total += part
    return total


def _after_steps(model: Pipeline) -> tuple[Scores, Sequence[Floats]]:
    last, thresholds = _form(model.steps[-1][1])
    if len(model.steps) == 1:
        return last, thresholds
    prepare = _prepared(model)
    return lambda block: last(prepare(block)), ()


def _prepared(model: Pipeline) -> Columns:
    """Return the steps of a pipeline before its model."""
    steps = [columns_of(step) for _, step in model.steps[:-1]]

    def prepared(block: Floats) -> Floats:
        for step in steps:
            block = step(block)
        if _beyond_range(block):
            raise _BeyondRangeError
        return block

    return prepared


def _forest(model: Any) -> tuple[Scores, Sequence[Floats]]:
    forest, trees = joined_forest(model), len(getattr(model, "estimators_", [model]))

    def scores(block: Floats) -> Floats:
        # One after the other as scikit-learn adds them; `sum` adds in pairs.
        sums = np.add.accumulate(forest.leaf_values(block), axis=1)
        return np.asarray(sums[:, -1] / trees)

    return scores, forest.thresholds


def _logistic(model: LogisticRegression) -> Scores:
    coefficients, intercept = model.coef_.T, model.intercept_
    if coefficients.shape[1] != 1:
        raise TypeError("the regression has another number of classes")

    def scores(block: Floats) -> Floats:
        odds = (block @ coefficients + intercept).reshape(-1)
        return np.asarray(expit(odds, out=odds))

    return scores


def _lightgbm(model: Any) -> Scores:
    if any(name.startswith("pred") for name in model.get_params()):
        raise TypeError("settings of LightGBM change its predictions")
    booster = model.booster_
    return lambda block: np.asarray(booster.predict(block, num_threads=1))


def _ranked(model: RankedAnomalies) -> tuple[Scores, Sequence[Floats]]:
    detector = model.detector_
    if type(detector) is not Pipeline:
        detector = Pipeline([("detector", detector)])
    if type(detector.steps[-1][1]) is not IsolationForest:
        raise TypeError(f"{type(detector.steps[-1][1]).__name__} has no fast form")
    prepare, isolation = _prepared(detector), _isolation(detector.steps[-1][1])
    return lambda block: model.rank_(isolation(prepare(block))), ()


def _isolation(model: IsolationForest) -> Scores:
    """Return the anomaly of rows, the negative of `score_samples`."""
    from sklearn.ensemble._iforest import _average_path_length

    trees = [tree.tree_ for tree in model.estimators_]
    pairs = zip(model._decision_path_lengths, model._average_path_length_per_tree, strict=True)
    depths = [lengths + average - 1.0 for lengths, average in pairs]
    origins = None if model._max_features == model.n_features_in_ else model.estimators_features_
    forest = JoinedForest(trees, depths, int(model.n_features_in_), origins)
    denominator = len(trees) * _average_path_length([model._max_samples])
    if not denominator:
        raise TypeError("the trees of one row each have no depth")

    def anomaly(block: Floats) -> Floats:
        sums = np.add.accumulate(forest.leaf_values(block), axis=1)[:, -1]
        return np.asarray(2 ** -(sums / denominator))

    return anomaly
