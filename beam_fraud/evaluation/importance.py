"""What each feature is worth to a model: permutation importance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from beam_fraud.decisions.reasons.column_steps import keeps_columns
from beam_fraud.decisions.reasons.registry import explainer_of
from beam_fraud.evaluation.rows import Floats, Ints, Labels
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference


@dataclass(frozen=True)
class NativeImportance:
    """A number for each feature, the larger the more it is worth."""

    #: What the numbers are.
    what: str
    #: Features and their numbers, the largest first.
    features: tuple[tuple[str, float], ...]


def native_importance(
    model: Any, features: FeatureSet, reference: Reference, matrix: Floats
) -> NativeImportance | None:
    """Return the importances that a model has of its training, or those that its weights make.

    Args:
      model: a fitted classifier, or a pipeline that ends in one.
      features: what it takes.
      reference: the distributions that it was trained on.
      matrix: float64[m, features], rows to weigh the features of a regression on.

    Returns:
      None for models that have neither, such as scikit-learn's histogram gradient boosting, and
      where steps before the model mix columns.
    """
    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    last = steps[-1]
    if isinstance(last, LogisticRegression):
        explainer = explainer_of(model, features, reference)
        if explainer.approximate:
            return None
        moved = np.abs(explainer.contributions(matrix)).mean(axis=0)
        return _sorted("mean move of the log-odds, either way", features, moved)
    if not all(keeps_columns(step) for step in steps[:-1]):
        return None
    # LightGBM and XGBoost call theirs the same as scikit-learn's forests do.
    values = np.asarray(getattr(last, "feature_importances_", ()), dtype=np.float64)
    if values.shape != (len(features.names),) or not np.isfinite(values).all():
        return None
    return _sorted("the model's feature_importances_, as shares", features, _shares(values))


def _shares(values: Floats) -> Floats:
    total = values.sum()
    return values / total if total > 0 else values


def _sorted(what: str, features: FeatureSet, values: Floats) -> NativeImportance:
    pairs = zip(features.names, values.tolist(), strict=True)
    return NativeImportance(what, tuple(sorted(pairs, key=lambda pair: -pair[1])))


#: Times that a feature is shuffled.
REPEATS = 5
#: Processor time that all predictions may take together, in microseconds.
_BUDGET = 5_000_000
#: What a prediction is taken to cost where the bundle does not say, in microseconds a row.
_UNKNOWN_COST = 20.0
_FEWEST_ROWS, _MOST_ROWS = 1_000, 10_000


@dataclass(frozen=True)
class FeatureImportance:
    """What a feature is worth."""

    #: Its name.
    feature: str
    #: Average precision lost where its values are shuffled among the rows, on average.
    loss: float
    #: Standard deviation over the repeats.
    deviation: float


@dataclass(frozen=True)
class PermutationImportance:
    """What each feature is worth, on a sample of the rows."""

    #: Rows of the sample.
    rows: int
    #: Frauds among them.
    frauds: int
    #: Times that each feature was shuffled.
    repeats: int
    #: Of the sample and of the shuffles.
    seed: int
    #: Of the sample, its genuine rows weighed so that frauds are as rare as in all rows.
    average_precision: float
    #: The features, the one worth most first.
    features: tuple[FeatureImportance, ...]


@dataclass(frozen=True)
class Sample:
    """Some of n rows, and what each stands for."""

    #: int64[m], rising.
    rows: Ints
    #: float64[m]: how many rows of its class each stands for.
    weights: Floats


def affordable_rows(microseconds_per_row: float | None, features: int, models: int = 1) -> int:
    """Return how many rows keep the predictions of all shuffles within some seconds.

    Args:
      microseconds_per_row: what a prediction costs, as a bundle says; None if it doesn't.
      features: how many are shuffled.
      models: that share the time.
    """
    each = (microseconds_per_row or _UNKNOWN_COST) * features * REPEATS * models
    return int(np.clip(_BUDGET / max(each, 1e-9), _FEWEST_ROWS, _MOST_ROWS))


def sample_of(labels: Labels, rows: int, seed: int) -> Sample:
    """Return a sample that is half frauds if there are so many, and otherwise has all of them.

    Args:
      labels: int8[n], 1 is fraud.
      rows: m, or n if that is less.
      seed: of the choice.
    """
    random = np.random.default_rng(seed)
    frauds, genuine = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    of_frauds = min(len(frauds), max(rows // 2, rows - len(genuine)))
    of_genuine = min(len(genuine), rows - of_frauds)
    chosen, weights = [], []
    for of_class, size in ((frauds, of_frauds), (genuine, of_genuine)):
        if size:
            chosen.append(random.choice(of_class, size, replace=False))
            weights.append(np.full(size, len(of_class) / size))
    picked = np.concatenate(chosen)
    order = np.argsort(picked)
    return Sample(picked[order], np.concatenate(weights)[order])


def permutation_importance(
    model: Any, matrix: Floats, labels: Labels, weights: Floats, names: Sequence[str], seed: int
) -> PermutationImportance | None:
    """Return how much average precision goes where a feature's values are shuffled (Breiman 2001).

    A feature that others can stand for looks worthless here: shuffle it, and they still tell.

    Args:
      model: a fitted classifier.
      matrix: float64[m, features].
      labels: int8[m], 1 is fraud.
      weights: float64[m], how many rows each stands for.
      names: of the features.
      seed: of the shuffles.

    Returns:
      None where rows of one class say nothing.
    """
    if not 0 < labels.sum() < len(labels):
        return None
    random = np.random.default_rng(seed)
    base = _average_precision(labels, predict_scores(model, matrix), weights)
    shuffled = np.tile(matrix, (REPEATS, 1))
    found = []
    for place, name in enumerate(names):
        kept = shuffled[:, place].copy()
        column = np.tile(matrix[:, place], (REPEATS, 1))
        shuffled[:, place] = random.permuted(column, axis=1).ravel()
        # What a prediction is said to cost is of one thread, and so many small ones gain nothing.
        with threadpool_limits(1):
            scores = predict_scores(model, shuffled).reshape(REPEATS, -1)
        losses = [base - _average_precision(labels, s, weights) for s in scores]
        shuffled[:, place] = kept
        found.append(FeatureImportance(name, float(np.mean(losses)), float(np.std(losses))))
    return PermutationImportance(
        rows=len(labels),
        frauds=int(labels.sum()),
        repeats=REPEATS,
        seed=seed,
        average_precision=base,
        features=tuple(sorted(found, key=lambda f: -f.loss)),
    )


def _average_precision(labels: Labels, scores: Floats, weights: Floats) -> float:
    return float(average_precision_score(labels, scores, sample_weight=weights))
