"""Importances of features: the model's own, and by permutation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from beam_fraud.decisions.reasons.explainer import keeps_columns
from beam_fraud.decisions.reasons.registry import explainer_of
from beam_fraud.evaluation.rows import Floats, Ints, Labels
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.reference import Reference


@dataclass(frozen=True)
class NativeImportance:
    """A model's own importances."""

    #: Name of the measure.
    what: str
    #: Features and their numbers, the largest first.
    features: tuple[tuple[str, float], ...]


def native_importance(
    model: Any, features: FeatureSet, reference: Reference, matrix: Floats
) -> NativeImportance | None:
    """Return the importances from a model's training, or from its weights.

    Args:
      model: a fitted classifier, or a pipeline that ends in one.
      features: its features.
      reference: its reference distributions.
      matrix: float64[m, features], rows to weigh the features of a regression on.

    Returns:
      None for models with neither, such as scikit-learn's histogram gradient boosting, and for
      pipelines that mix columns.
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
    # LightGBM and XGBoost use the same attribute as scikit-learn's forests.
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


#: Shuffles per feature.
REPEATS = 5
#: Time limit of all predictions together, in microseconds of processor time.
_BUDGET = 5_000_000
#: Assumed cost of a prediction without a measured one, in microseconds per row.
_UNKNOWN_COST = 20.0
_FEWEST_ROWS, _MOST_ROWS = 1_000, 10_000


@dataclass(frozen=True)
class FeatureImportance:
    """The importance of a feature."""

    #: Its name.
    feature: str
    #: Mean loss of average precision if its values are shuffled.
    loss: float
    #: Standard deviation over the repeats.
    deviation: float


@dataclass(frozen=True)
class PermutationImportance:
    """Permutation importances on a sample of the rows."""

    #: Rows of the sample.
    rows: int
    #: Frauds among them.
    frauds: int
    #: Shuffles per feature.
    repeats: int
    #: Of the sample and of the shuffles.
    seed: int
    #: Average precision of the sample, with genuine rows weighted to the overall rate of fraud.
    average_precision: float
    #: The features, most important first.
    features: tuple[FeatureImportance, ...]


@dataclass(frozen=True)
class Sample:
    """A weighted sample of n rows."""

    #: int64[m], rising.
    rows: Ints
    #: float64[m]: rows of its class that each represents.
    weights: Floats


def affordable_rows(microseconds_per_row: float | None, features: int, models: int = 1) -> int:
    """Return the rows for which the predictions of all shuffles take some seconds.

    Args:
      microseconds_per_row: cost of a prediction in the bundle, or None.
      features: number of features.
      models: number of models that share the time.
    """
    each = (microseconds_per_row or _UNKNOWN_COST) * features * REPEATS * models
    return int(np.clip(_BUDGET / max(each, 1e-9), _FEWEST_ROWS, _MOST_ROWS))


def sample_of(labels: Labels, rows: int, seed: int) -> Sample:
    """Return a sample of half frauds, or with all frauds if there are fewer.

    Args:
      labels: int8[n], 1 is fraud.
      rows: size of the sample, at most n.
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
    """Return the loss of average precision if a feature is shuffled (Breiman 2001).

    A feature that others can replace looks unimportant: after the shuffle, they still predict.

    Args:
      model: a fitted classifier.
      matrix: float64[m, features].
      labels: int8[m], 1 is fraud.
      weights: float64[m], rows that each represents.
      names: names of the features.
      seed: of the shuffles.

    Returns:
      None if the rows have one class.
    """
    if not 0 < labels.sum() < len(labels):
        return None
    random = np.random.default_rng(seed)
    base = _average_precision(labels, predict_scores(model, matrix), weights)
    shuffled = np.tile(matrix, (REPEATS, 1))
    importances = []
    for place, name in enumerate(names):
        values = shuffled[:, place].copy()
        column = np.tile(matrix[:, place], (REPEATS, 1))
        shuffled[:, place] = random.permuted(column, axis=1).ravel()
        # The measured cost is for one thread, and many small predictions gain nothing from more.
        with threadpool_limits(1):
            scores = predict_scores(model, shuffled).reshape(REPEATS, -1)
        losses = [base - _average_precision(labels, s, weights) for s in scores]
        shuffled[:, place] = values
        importances.append(FeatureImportance(name, float(np.mean(losses)), float(np.std(losses))))
    return PermutationImportance(
        rows=len(labels),
        frauds=int(labels.sum()),
        repeats=REPEATS,
        seed=seed,
        average_precision=base,
        features=tuple(sorted(importances, key=lambda f: -f.loss)),
    )


def _average_precision(labels: Labels, scores: Floats, weights: Floats) -> float:
    return float(average_precision_score(labels, scores, sample_weight=weights))
