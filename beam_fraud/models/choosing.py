"""Choose the settings of a kind of model on the validation rows of folds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from beam_fraud.models.examples import FoldRows, LabelledRows
from beam_fraud.models.kinds import ModelKind
from beam_fraud.models.predict import predict_scores
from beam_fraud.monitoring.activity import doing

Kind = TypeVar("Kind", bound=ModelKind)
#: Callback after each fold with its number, from 0, and its average precision.
AfterFold = Callable[[int, float], None]


@dataclass(frozen=True)
class Chosen:
    """A kind with its chosen settings, and their results on validation rows."""

    #: The kind with the chosen settings.
    kind: ModelKind
    #: float64[validation rows] for each fold: scores by a model with these settings that was fitted
    #: on the fold's own training rows.
    scores: tuple[npt.NDArray[np.float64], ...]
    #: Average precision of each fold.
    average_precision: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the folds' average precisions, by which candidates are compared."""
        return statistics.fmean(self.average_precision)


def choose(
    kind: ModelKind, rows: FoldRows, seed: int, after: AfterFold = lambda number, figure: None
) -> Chosen:
    """Choose settings on each fold, and settle on one kind.

    Args:
      kind: the kind with its initial settings.
      rows: of each fold, both classes.
      seed: of everything random.
      after: callback after each fold; an exception ends the choice.
    """
    kinds, scores, figures = [], [], []
    for number, (train, valid) in enumerate(rows):
        with doing(_fitting(kind, train, number, rows)):
            validated, of_fold = kind.validate(train, valid, seed)
        kinds.append(validated)
        scores.append(of_fold)
        figures.append(valid.average_precision(of_fold))
        after(number, figures[-1])
    chosen = settle(kinds)
    for number, validated in enumerate(kinds):
        if validated != chosen:
            # The threshold must fit scores of the settled settings, not of each fold's own.
            train, valid = rows[number]
            with doing(_fitting(chosen, train, number, rows)):
                scores[number] = predict_scores(chosen.fit(train, seed), valid.matrix)
            figures[number] = valid.average_precision(scores[number])
    return Chosen(chosen, tuple(scores), tuple(figures))


def _fitting(kind: ModelKind, train: LabelledRows, number: int, rows: FoldRows) -> str:
    return f"fitting {kind.name} on {len(train.labels):,} rows, fold {number + 1} of {len(rows)}"


def settle(kinds: Sequence[Kind]) -> Kind:
    """Merge the choices of folds: the median of numbers, else the last fold's choice.

    Example:
      >>> from beam_fraud.models.kinds import KINDS
      >>> boosting = KINDS["hist_gradient_boosting"]
      >>> settle([replace(boosting, trees=n) for n in (20, 90, 60)]).trees
      60
    """
    last = kinds[-1]
    return replace(
        last,
        **{
            field.name: _middle([getattr(kind, field.name) for kind in kinds])
            for field in fields(last)
            if field.init
        },
    )


def _middle(values: list[Any]) -> Any:
    last = values[-1]
    if all(value == last for value in values):
        return last
    if isinstance(last, ModelKind) and all(type(value) is type(last) for value in values):
        return settle(values)
    if isinstance(last, tuple) and len({len(value) for value in values}) == 1:
        return tuple(_middle(list(parts)) for parts in zip(*values, strict=True))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        middle = statistics.median(values)
        return math.floor(middle) if isinstance(last, int) else middle
    return last
