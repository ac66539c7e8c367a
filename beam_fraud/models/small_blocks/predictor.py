"""Predict a few rows at once, with the bits of the model's own predictions.

A model's own prediction of one row costs hundreds of microseconds: the checks of its arguments, and
a call for each of its trees. A bundle's models are computed here from the same numbers in the same
order, by fewer calls; a model that has no such form, or whose scores differ in a bit on probing
rows, predicts by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
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
from threadpoolctl import threadpool_limits

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
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference
from beam_fraud.models.resampling.bagging import Bagged
from beam_fraud.models.resampling.under import PriorCorrected, corrected
from beam_fraud.models.small_blocks.columns import (
    LARGEST,
    BeyondRangeError,
    Columns,
    beyond_range,
    columns_of,
)
from beam_fraud.models.small_blocks.joined_trees import (
    JoinedBoosting,
    JoinedForest,
    added,
    joined_forest,
)
from beam_fraud.models.small_blocks.joined_xgboost import JoinedXGBoost

Floats = npt.NDArray[np.float64]
#: From float64[n, features] to float64[n] scores.
Scores = Callable[[Floats], Floats]

#: Rows up to which a fast form is used unless it says otherwise: from some 256 on, most models are
#: as fast by themselves.
MOST_ROWS = 64
#: The same for XGBoost, which walks a row through 200 trees in 3 microseconds after 300 for the
#: call; joined trees take 16 after 20.
_MOST_ROWS_XGBOOST = 16
#: By name, because they are optional and slow to import.
_LIGHTGBM = ("lightgbm.sklearn", "LGBMClassifier")
_XGBOOST = ("xgboost.sklearn", "XGBClassifier")
#: Probing rows that are also predicted one by one.
_SINGLE_ROWS = 16


@dataclass(frozen=True)
class _Form:
    """The fast form of a model."""

    #: A function of a module with its arguments, which another process can be sent.
    scores: Scores
    #: Thresholds at which its trees split rows, of each feature; empty if unknown.
    thresholds: Sequence[Floats] = ()
    #: Rows up to which it is faster than the model.
    most_rows: int = MOST_ROWS


class Predictor:
    """The scores of a model, exact for any rows and fast for few."""

    def __init__(
        self,
        model: Any,
        features: int,
        form: _Form | None,
        reason: str,
        absent: bool,
        differs: bool = False,
    ) -> None:
        self._model = model
        self._features = features
        self._form = form
        self._absent = absent
        #: Why the model predicts by itself; "" if it has a fast form.
        self.reason = reason
        #: Whether that is because its fast form gives other scores.
        self.differs = differs

    @classmethod
    def of(cls, model: Any, probe: Floats) -> Predictor:
        """Return the predictor of a model.

        Args:
          model: a classifier for `predict_scores`.
          probe: float64[n, features], n > 0, such as `probing_rows`; the fast form has to give
            these rows, and others at and beyond the thresholds of its trees, the model's scores.
        """
        features = probe.shape[1]
        try:
            form = _form(model)
        except Exception as error:  # private parts of other versions may raise anything
            return cls(model, features, None, reason_of(error), absent=False)
        # Extreme numbers overflow, in both forms. Sums of BLAS depend on its threads.
        with np.errstate(all="ignore"), threadpool_limits(1):
            absent = _takes(model, np.full((1, features), np.nan))
            extreme = _those(partial(_takes, model), _extreme_rows(features))
            rows = np.concatenate([probe, extreme, edge_rows(form.thresholds, probe)])
            rows = rows if absent else rows[~np.isnan(rows).any(axis=1)]
            differs = False
            try:
                rows = _those(partial(_within, form.scores), rows)
                reason = f"{type(model).__name__}: no probing row has a fast score"
                if len(rows):
                    reason = _difference(model, form.scores, rows)
                    differs = bool(reason)
            except Exception as error:
                reason = reason_of(error)
        return cls(model, features, None if reason else form, reason, absent, differs)

    @property
    def own(self) -> bool:
        """Return True if blocks go to the model's own predict method."""
        return self._form is None

    @property
    def of_any_size(self) -> bool:
        """Return whether the fast form is faster for blocks of any size."""
        return self._form is not None and self._form.most_rows == sys.maxsize

    def __call__(self, block: Floats) -> Floats:
        """Return the scores of `predict_scores(model, block)`, in every bit.

        As before that function, `use_one_thread` limits the threads of a calling thread.

        Args:
          block: float64[n, features], C-contiguous, NaN where a value is absent.
        """
        form = self._form
        if form is not None and len(block) <= form.most_rows and self._fits(block):
            with suppress(BeyondRangeError):
                return form.scores(block)
        return predict_scores(self._model, block)

    def _fits(self, block: Floats) -> bool:
        if not len(block) or block.shape[1:] != (self._features,) or beyond_range(block):
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


def _extreme_rows(features: int) -> Floats:
    values = (np.nan, 0.0, -0.0, 1e30, -1e30, 1e-300, 255.0, 256.0, -1.0, 0.5)
    return np.repeat(np.array(values)[:, None], features, axis=1)


def edge_rows(thresholds: Sequence[Floats], probe: Floats) -> Floats:
    """Return rows whose values are thresholds, and rows of the next numbers on both sides."""
    random = np.random.default_rng(0)
    # A split by absence alone has an infinite threshold.
    thresholds = [values[np.abs(values) < LARGEST] for values in thresholds]
    size = min(256, max(map(len, thresholds), default=0))
    if not size:
        return probe[:0]
    rows = probe[random.integers(0, len(probe), size=size)]
    for place, values in enumerate(thresholds):
        if len(values):
            rows[:, place] = random.choice(values, size=size)
    return np.concatenate([rows, np.nextafter(rows, np.inf), np.nextafter(rows, -np.inf)])


def _those(passes: Callable[[Floats], bool], rows: Floats) -> Floats:
    """Return the rows that pass: together with others, or else one by one."""
    found = [rows[:0]]
    # The parts of an ensemble leave blocks of more rows to their models.
    for start in range(0, len(rows), _MOST_ROWS_XGBOOST):
        block = rows[start : start + _MOST_ROWS_XGBOOST]
        found += [block] if passes(block) else [row for row in block[:, None] if passes(row)]
    return np.concatenate(found)


def _takes(model: Any, rows: Floats) -> bool:
    """Return whether the model has scores for rows."""
    try:
        predict_scores(model, rows)
    except Exception:  # without an imputer NaN is an error, and so may be an unlikely code
        return False
    return True


def _within(fast: Scores, rows: Floats) -> bool:
    """Return whether no row is left to the model itself."""
    try:
        fast(rows)
    except BeyondRangeError:
        return False
    return True


def _difference(model: Any, fast: Scores, rows: Floats) -> str:
    """Return how two forms of a model differ in a bit on rows; "" if they do not."""
    blocks = [rows, rows[:MOST_ROWS], rows[: MOST_ROWS // 2 + 1], rows[:7], rows[:2]]
    blocks += [row[None, :] for row in rows[:: max(1, len(rows) // _SINGLE_ROWS)]]
    for block in map(np.ascontiguousarray, blocks):
        expected, scores = predict_scores(model, block), fast(block)
        if expected.tobytes() != scores.tobytes():
            unlike = np.count_nonzero(expected.view(np.int64) != scores.view(np.int64))
            return f"{type(model).__name__}: {unlike} of {len(block)} probing rows differ"
    return ""


def _form(model: Any) -> _Form:
    """Return the fast form of a model.

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
        return _Form(
            partial(_boosted, boosting),
            boosting.thresholds,
            sys.maxsize if boosting.of_any_size else MOST_ROWS,
        )
    if kind in (RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier):
        return _forest(model)
    if (kind.__module__, kind.__name__) == _XGBOOST:
        boosted = JoinedXGBoost(model)
        return _Form(boosted.scores, boosted.thresholds, _MOST_ROWS_XGBOOST)
    if kind is LightGBMBooster or (kind.__module__, kind.__name__) == _LIGHTGBM:
        return _Form(_lightgbm(model))
    if kind is LogisticRegression:
        return _Form(_logistic(model))
    if kind is MLPClassifier:
        return _Form(partial(_by_layers, model))
    if kind is KerasClassifier:
        return _Form(model.network_.scores)
    if kind is RankedAnomalies:
        return _Form(_ranked(model))
    return _combined(model)


def _combined(model: Any) -> _Form:
    """Return the fast form of a model around other models."""
    kind = type(model)
    if kind is Calibrated:
        inner = _form(model.model)
        return replace(inner, scores=partial(_after, inner.scores, model.calibration))
    if kind is PriorCorrected:
        inner = _form(model.model)
        return replace(
            inner, scores=partial(_after, inner.scores, partial(corrected, kept=model.kept))
        )
    if kind is Bagged:
        return _Form(partial(_together, _members(model.models), _mean))
    if kind in (LogitAverage, RankAverage, StackedLogits):
        members = _members([member for _, member in model.members_])
        return _Form(partial(_together, members, model.combine))
    raise TypeError(f"{kind.__name__} has no fast form")


def _members(models: Sequence[Any]) -> list[Scores]:
    """Return the scores of each member, its own predictions where it has no fast form."""
    return [_member(model) for model in models]


def _member(model: Any) -> Scores:
    try:
        form = _form(model)
    except TypeError:
        return partial(predict_scores, model)
    return partial(_few_or_many, form, model)


def _few_or_many(form: _Form, model: Any, block: Floats) -> Floats:
    few = len(block) <= form.most_rows
    return form.scores(block) if few else predict_scores(model, block)


def _together(
    members: Sequence[Scores], combine: Callable[[list[Floats]], Floats], block: Floats
) -> Floats:
    return combine([member(block) for member in members])


def _mean(parts: Sequence[Floats]) -> Floats:
    total = np.zeros_like(parts[0])
    for part in parts:
        total += part
    return np.asarray(total / len(parts))


def _after(inner: Scores, change: Scores, block: Floats) -> Floats:
    return change(inner(block))


def _boosted(boosting: JoinedBoosting, block: Floats) -> Floats:
    return np.asarray(expit(boosting.log_odds(block)))


def _by_layers(model: MLPClassifier, block: Floats) -> Floats:
    return np.asarray(model._forward_pass_fast(block, check_input=False).ravel())


def _after_steps(model: Pipeline) -> _Form:
    last = _form(model.steps[-1][1])
    if len(model.steps) == 1:
        return last
    scores = partial(_after, _prepared(model), last.scores)
    return _Form(scores, most_rows=min(last.most_rows, MOST_ROWS))


def _prepared(model: Pipeline) -> Columns:
    """Return the steps of a pipeline before its model."""
    return partial(_within_range, [columns_of(step) for _, step in model.steps[:-1]])


def _within_range(steps: Sequence[Columns], block: Floats) -> Floats:
    for step in steps:
        block = step(block)
    if beyond_range(block):
        raise BeyondRangeError
    return block


def _forest(model: Any) -> _Form:
    forest, trees = joined_forest(model), len(getattr(model, "estimators_", [model]))
    return _Form(partial(_mean_of_trees, forest, trees), forest.thresholds)


def _mean_of_trees(forest: JoinedForest, trees: int, block: Floats) -> Floats:
    return added(forest.leaf_values(block)) / trees


def _logistic(model: LogisticRegression) -> Scores:
    coefficients, intercept = model.coef_.T, model.intercept_
    if coefficients.shape[1] != 1:
        raise TypeError("the regression has another number of classes")
    return partial(_regressed, coefficients, intercept)


def _regressed(coefficients: Floats, intercept: Floats, block: Floats) -> Floats:
    odds = (block @ coefficients + intercept).reshape(-1)
    return np.asarray(expit(odds, out=odds))


def _lightgbm(model: Any) -> Scores:
    if any(name.startswith("pred") for name in model.get_params()):
        raise TypeError("settings of LightGBM change its predictions")
    return partial(_by_booster, model.booster_)


def _by_booster(booster: Any, block: Floats) -> Floats:
    return np.asarray(booster.predict(block, num_threads=1))


def _ranked(model: RankedAnomalies) -> Scores:
    detector = model.detector_
    if type(detector) is not Pipeline:
        detector = Pipeline([("detector", detector)])
    if type(detector.steps[-1][1]) is not IsolationForest:
        raise TypeError(f"{type(detector.steps[-1][1]).__name__} has no fast form")
    anomaly = partial(_after, _prepared(detector), _isolation(detector.steps[-1][1]))
    return partial(_after, anomaly, model.rank_)


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
    return partial(_anomaly, forest, denominator)


def _anomaly(forest: JoinedForest, denominator: Floats, block: Floats) -> Floats:
    return np.asarray(2 ** -(added(forest.leaf_values(block)) / denominator))
