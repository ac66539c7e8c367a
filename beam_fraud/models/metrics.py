"""Metrics of scores against labels, and whether a gain exceeds chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

#: The classes in the order of their labels, 0 and 1.
CLASSES = ("genuine", "fraud")


@dataclass(frozen=True)
class Metrics:
    """Figures of n labelled and scored rows; None where one class leaves a figure undefined."""

    #: Rows scored.
    rows: int
    #: Rows whose label is fraud.
    frauds: int
    #: Area under the precision-recall curve, as average precision.
    average_precision: float | None
    #: Area under the receiver operating characteristic.
    roc_auc: float | None
    #: The score from which a row counts as flagged.
    threshold: float
    #: Frauds among the flagged; None if nothing is flagged.
    precision: float | None
    #: Flagged among the frauds; None if there are none.
    recall: float | None
    #: Harmonic mean of precision and recall.
    f1: float | None
    #: Rows as tn, fp, fn, tp.
    confusion: dict[str, int]
    #: `genuine` and `fraud` to precision, recall, f1 and rows.
    per_class: dict[str, dict[str, float | int | None]]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-compatible values."""
        return asdict(self)


def measure(
    labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64], threshold: float
) -> Metrics:
    """Compare scores with labels.

    Args:
      labels: int8[n], 1 is fraud; n > 0.
      scores: float64[n] in 0..1.
      threshold: a score of at least this is flagged.
    """
    frauds = int(labels.sum())
    flagged = (scores >= threshold).astype(np.int8)
    both = 0 < frauds < len(labels)
    tn, fp, fn, tp = (int(n) for n in confusion_matrix(labels, flagged, labels=[0, 1]).flat)
    per_class = _per_class(labels, flagged)
    fraud = per_class["fraud"]
    return Metrics(
        rows=len(labels),
        frauds=frauds,
        average_precision=average_precision(labels, scores),
        roc_auc=float(roc_auc_score(labels, scores)) if both else None,
        threshold=threshold,
        precision=fraud["precision"],
        recall=fraud["recall"],
        f1=fraud["f1"],
        confusion={"tn": tn, "fp": fp, "fn": fn, "tp": tp},
        per_class=per_class,
    )


def average_precision(
    labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]
) -> float | None:
    """Return the average precision of n scores; None for rows of one class."""
    if not 0 < labels.sum() < len(labels):
        return None
    return float(average_precision_score(labels, scores))


def undefined(figure: str, rows: int, frauds: int) -> str:
    """Return why a ranking figure is undefined on `rows` rows with `frauds` frauds.

    Example:
      >>> undefined("recall", 10, 0), undefined("roc_auc", 10, 10)
      ('undefined: no frauds', 'undefined: only frauds')
    """
    if figure == "precision":
        return "undefined: nothing flagged"
    return f"undefined: {'only' if rows and frauds == rows else 'no'} frauds"


def one_class_warning(rows: int, frauds: int) -> str | None:
    """Return a warning on rows of one class; None if both classes occur."""
    if not frauds:
        return (
            f"none of the {rows:,} rows is a fraud: all figures of ranking and recall are undefined"
        )
    if frauds == rows:
        return f"each of the {rows:,} rows is a fraud: average precision and ROC AUC are undefined"
    return None


def _per_class(
    labels: npt.NDArray[np.int8], flagged: npt.NDArray[np.int8]
) -> dict[str, dict[str, float | int | None]]:
    figures = precision_recall_fscore_support(labels, flagged, labels=[0, 1], zero_division=np.nan)
    return {
        name: {
            "precision": _known(precision),
            "recall": _known(recall),
            "f1": _known(f1),
            "rows": int(rows),
        }
        for name, precision, recall, f1, rows in zip(CLASSES, *figures, strict=True)
    }


def _known(figure: float) -> float | None:
    return None if math.isnan(figure) else float(figure)


#: Number of bootstrap samples.
DRAWS = 400
#: Confidence of the interval.
CONFIDENCE = 0.9


class WeightedPrecision:
    """Average precision of one list of scores under many weightings of its rows.

    Scores are sorted once, because sorting is the slow part.
    """

    def __init__(self, labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> None:
        """Sort int8[n] labels by float64[n] scores."""
        self._order = np.argsort(-scores, kind="stable")
        self._frauds = labels[self._order] == 1
        self._last_of_tie = np.append(np.flatnonzero(np.diff(scores[self._order])), len(scores) - 1)

    def __call__(self, weights: npt.NDArray[np.int64]) -> float:
        """Return the average precision where row i has weight `weights[i]`, int64[n]."""
        counts = weights[self._order]
        flagged = np.cumsum(counts)[self._last_of_tie]
        caught = np.cumsum(np.where(self._frauds, counts, 0))[self._last_of_tie]
        gained = np.diff(caught, prepend=0)
        some = gained > 0
        return float(np.sum(gained[some] * caught[some] / flagged[some]) / max(caught[-1], 1))


def gain_interval(
    labels: Sequence[npt.NDArray[np.int8]],
    before: Sequence[npt.NDArray[np.float64]],
    after: Sequence[npt.NDArray[np.float64]],
    seed: int,
) -> tuple[float, float]:
    """Return the confidence interval of the gain in average precision of other scores.

    Rows are drawn with replacement, frauds and genuine rows separately, so that each sample has as
    many of both; both lists of scores are measured on the same sample, which cancels its
    difficulty.

    Args:
      labels: int8[n] for each fold, both classes.
      before: float64[n] for each fold.
      after: float64[n] for each fold.
      seed: of the bootstrap.

    Returns:
      The bounds of the middle `CONFIDENCE` of `DRAWS` differences, each a mean over folds.
    """
    random = np.random.default_rng(seed)
    gains = np.zeros(DRAWS)
    for true, old, new in zip(labels, before, after, strict=True):
        first, second = WeightedPrecision(true, old), WeightedPrecision(true, new)
        for draw in range(DRAWS):
            weights = _drawn(true, random)
            gains[draw] += (second(weights) - first(weights)) / len(labels)
    low, high = np.quantile(gains, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _drawn(labels: npt.NDArray[np.int8], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return how often each row is drawn, int64[n]."""
    weights = np.zeros(len(labels), dtype=np.int64)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        drawn = rows[random.integers(0, len(rows), len(rows))]
        weights += np.bincount(drawn, minlength=len(labels))
    return weights
