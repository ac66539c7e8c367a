"""How well a model did on each fold, and how much that varies."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from beam_fraud.event_time import moment_of
from beam_fraud.models.folds import Fold
from beam_fraud.models.handbook_protocol import CARDS, card_precision

#: The figures of a fold of which mean and spread say something.
COMPARED = ("average_precision", "roc_auc", f"card_precision_at_{CARDS}")


@dataclass(frozen=True)
class FoldFigures:
    """One fold: its rows, and figures of its validation rows."""

    #: First and last event time of the rows fitted on, ISO 8601.
    trained_on: tuple[str, str]
    #: First and last event time of the validation rows, ISO 8601.
    validated_on: tuple[str, str]
    #: Rows fitted on.
    rows_train: int
    #: Validation rows.
    rows_valid: int
    #: Frauds among the validation rows.
    frauds: int
    #: Rows before the validation rows that were not fitted on: their labels are not known by then.
    rows_unlabelled: int
    #: Rows of cards that are known to be compromised, which were left out of the validation rows.
    rows_known_cards: int
    #: Area under the precision-recall curve, as average precision.
    average_precision: float
    #: Area under the receiver operating characteristic.
    roc_auc: float
    #: Share of compromised cards among the hundred looked at a day; None without accounts.
    card_precision_at_100: float | None


def fold_figures(
    fold: Fold,
    times: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int8],
    scores: npt.NDArray[np.float64],
    cards: npt.NDArray[np.int64] | None,
) -> FoldFigures:
    """The figures of one fold.

    Args:
      fold: which rows.
      times: int64[n], event times of all rows in microseconds.
      labels: int8[n], of all rows; both classes are among the validation rows.
      scores: float64[len(fold.valid)], of the validation rows.
      cards: int64[n], a number for each card, or None where there are no accounts.
    """
    at, judged = fold.valid, labels[fold.valid]
    precision = None if cards is None else card_precision(times[at], cards[at], judged, scores)
    return FoldFigures(
        trained_on=_span(times[fold.train]),
        validated_on=_span(times[at]),
        rows_train=len(fold.train),
        rows_valid=len(at),
        frauds=int(judged.sum()),
        rows_unlabelled=fold.unlabelled,
        rows_known_cards=fold.known,
        average_precision=float(average_precision_score(judged, scores)),
        roc_auc=float(roc_auc_score(judged, scores)),
        card_precision_at_100=precision,
    )


def summary(figures: tuple[FoldFigures, ...]) -> dict[str, Any]:
    """The folds and, for each figure that is compared, `mean` and `spread`.

    The spread is the standard deviation between folds (n - 1), None for a single fold.
    """
    folds = [asdict(fold) for fold in figures]
    compared = {}
    for name in COMPARED:
        values = [fold[name] for fold in folds]
        if None not in values:
            spread = statistics.stdev(values) if len(values) > 1 else None
            compared[name] = {"mean": statistics.fmean(values), "spread": spread}
    return {"folds": folds, **compared}


def _span(times: npt.NDArray[np.int64]) -> tuple[str, str]:
    first, last = (moment_of(int(at)).isoformat() for at in (times.min(), times.max()))
    return first, last
