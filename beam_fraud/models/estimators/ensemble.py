"""Ensembles of classifiers: means of log-odds or of ranks, and a regression over log-odds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.calibration import log_odds, probability
from beam_fraud.models.estimators.anomalies import EmpiricalRank
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.predict import predict_scores

if TYPE_CHECKING:
    from beam_fraud.models.kinds.base import ModelKind


class EnsembleClassifier(ClassifierMixin, BaseEstimator, ABC):
    """Members that are fitted on the same rows, and a combination of their scores.

    Args:
      members: names and unfitted classifiers, which stay unfitted.
    """

    def __init__(self, members: Sequence[tuple[str, Any]]) -> None:
        self.members = members

    def fit(self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]) -> Self:
        """Fit every member and the combination on rows in time order.

        Args:
          matrix: float64[n, features], NaN where a value is absent.
          labels: int8[n] of both classes, 1 is fraud.

        Raises:
          FraudError: the combination needs more frauds.
        """
        self.classes_ = np.unique(labels)
        self.n_features_in_ = matrix.shape[1]
        self._fit_combination(matrix, labels)
        self.members_: list[tuple[str, Any]] = [
            (name, clone(member).fit(matrix, labels)) for name, member in self.members
        ]
        return self

    def predict_proba(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, 2]: one less the score, and the score."""
        scores = self.combine(self.member_scores(matrix))
        return np.column_stack([1 - scores, scores])

    def member_scores(self, matrix: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
        """Return the scores of each fitted member, float64[n] each."""
        return [predict_scores(member, matrix) for _, member in self.members_]

    @abstractmethod
    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Return the ensemble's score in 0..1 of each row, from float64[n] of each member.

        A row's score depends on no other row.
        """

    def _fit_combination(
        self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
    ) -> None:
        """Learn what `combine` needs from rows in time order."""


class Member(ClassifierMixin, BaseEstimator):
    """A kind behind the interface of scikit-learn.

    A kind may do more than its estimator's `fit`; so does the member.

    Args:
      kind: the kind with its settings.
      categorical: positions of the columns that hold category codes.
      seed: of everything random in it.
    """

    def __init__(self, kind: ModelKind, categorical: tuple[int, ...] = (), seed: int = 0) -> None:
        self.kind = kind
        self.categorical = categorical
        self.seed = seed

    def fit(self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]) -> Member:
        """Fit the kind on float64[n, features] and int8[n]."""
        rows = LabelledRows(matrix, np.asarray(labels, dtype=np.int8), tuple(self.categorical))
        self.model_: Any = self.kind.fit(rows, self.seed)
        self.classes_ = np.unique(rows.labels)
        self.n_features_in_ = rows.matrix.shape[1]
        return self

    def predict_proba(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, 2]: the probabilities of genuine and of fraud."""
        probabilities: npt.NDArray[np.float64] = self.model_.predict_proba(matrix)
        return probabilities


def forward_cuts(labels: npt.NDArray[np.int8], first: float, parts: int) -> list[int]:
    """Return the positions that cut rows in time order into a first fit and scored parts.

    Parts hold equal numbers of frauds, not of rows: every fit needs a fraud.

    Args:
      labels: int8[n] in time order, 1 is fraud.
      first: share of the frauds in the first part, which is only fitted on.
      parts: number of further parts.

    Returns:
      `parts + 1` rising positions, the last of them n.

    Raises:
      FraudError: a part would have no fraud, or a fit or a part only frauds.

    Example:
      >>> forward_cuts(np.array([0, 1, 0, 1, 0, 1, 0, 1], dtype=np.int8), 0.5, 2)
      [4, 6, 8]
    """
    frauds = np.flatnonzero(labels)
    counts = np.linspace(first, 1, parts + 1) * len(frauds)
    # A part ends after its last fraud; rows after the very last fraud belong to the last part.
    ends = [int(frauds[max(round(count), 1) - 1]) + 1 for count in counts] if len(frauds) else []
    cuts = [*ends[:-1], len(labels)]
    distinct = len(np.unique(cuts)) == parts + 1
    if not distinct or labels[: cuts[0]].all() or labels[cuts[0] :].all():
        raise FraudError(
            f"an ensemble scores rows by members that were fitted on earlier ones: {len(labels)} "
            f"rows with {len(frauds)} frauds can't be cut into {parts + 1} parts with some of each",
            Code.CLASSES_MISSING,
        )
    return cuts


def forward_scores(
    model: Any, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8], cuts: list[int]
) -> npt.NDArray[np.float64]:
    """Score each part by a model fitted on all parts before it.

    Args:
      model: an unfitted classifier; only its clones are fitted.
      matrix: float64[n, features] in time order.
      labels: int8[n].
      cuts: the result of `forward_cuts`.

    Returns:
      float64[n - cuts[0]]: the scores of the rows from the first cut on.
    """
    scores = [
        predict_scores(clone(model).fit(matrix[:start], labels[:start]), matrix[start:end])
        for start, end in pairwise(cuts)
    ]
    return np.concatenate(scores)


class LogitAverage(EnsembleClassifier):
    """The probability whose log-odds are the weighted mean of the members'.

    Args:
      members: names and unfitted classifiers.
      weights: of each member, not negative; equal if empty or all 0.
    """

    def __init__(self, members: Sequence[tuple[str, Any]], weights: Sequence[float] = ()) -> None:
        super().__init__(members)
        self.weights = weights

    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return mean_log_odds(scores, self.weights)

    def shares(self) -> list[float]:
        """Return the weights of the members, normalised to a sum of 1."""
        return [float(share) for share in _shares(self.weights, len(self.members_))]


def mean_log_odds(
    scores: Sequence[npt.NDArray[np.float64]], weights: Sequence[float] = ()
) -> npt.NDArray[np.float64]:
    """Average scores as log-odds.

    Args:
      scores: float64[n] in 0..1 of each of k members, k > 0.
      weights: k weights, not negative; equal if empty or all 0.

    Returns:
      float64[n] in 0..1.
    """
    # Add members one by one: the sums of a matrix product depend on the number of rows.
    total = np.zeros_like(scores[0])
    for share, member in zip(_shares(weights, len(scores)), scores, strict=True):
        total += share * log_odds(member)
    return probability(total)


def _shares(weights: Sequence[float], members: int) -> npt.NDArray[np.float64]:
    raw = np.asarray(weights if any(weights) else np.ones(members), dtype=np.float64)
    shares: npt.NDArray[np.float64] = raw / raw.sum()
    return shares


#: Share of the frauds in the first rows; members fitted there show how their scores spread on the
#: rest.
FITTED_SHARE = 0.75


class RankAverage(EnsembleClassifier):
    """The mean of the members' ranks, each among the member's scores of unseen rows.

    A member is surer on the rows it was fitted on than on any others. So each member is fitted on
    the first rows, and ranks refer to its scores of the last ones. Ranks are fixed after that: a
    single row can be scored.

    Args:
      members: names and unfitted classifiers.
    """

    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        total = np.zeros_like(scores[0])
        for rank, member in zip(self.ranks_, scores, strict=True):
            total += rank(member)
        return total / len(scores)

    def _fit_combination(
        self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
    ) -> None:
        cuts = forward_cuts(labels, FITTED_SHARE, parts=1)
        self.ranks_ = [
            EmpiricalRank.of(forward_scores(member, matrix, labels, cuts))
            for _, member in self.members
        ]


#: Share of the frauds in the first rows, on which members are fitted, but not the regression.
FIRST_SHARE = 0.5


class StackedLogits(EnsembleClassifier):
    """A logistic regression over members' scores of rows that they were not fitted on.

    Fit forward in time: members fitted on the first rows score the next part, members fitted on
    both score the part after, and so on. In the end, members are fitted on all rows.

    Args:
      members: names and unfitted classifiers.
      c: inverse strength of the regression's L2 penalty.
      parts: number of later parts that members score.
    """

    def __init__(self, members: Sequence[tuple[str, Any]], c: float = 0.1, parts: int = 3) -> None:
        super().__init__(members)
        self.c = c
        self.parts = parts

    def combine(self, scores: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        # Add members one by one: the sums of a matrix product depend on the number of rows.
        total = np.full_like(scores[0], self.intercept_)
        for coefficient, member in zip(self.coefficients_, scores, strict=True):
            total += coefficient * log_odds(member)
        return probability(total)

    def _fit_combination(
        self, matrix: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]
    ) -> None:
        cuts = forward_cuts(labels, FIRST_SHARE, self.parts)
        seen = [forward_scores(member, matrix, labels, cuts) for _, member in self.members]
        columns = np.column_stack([log_odds(scores) for scores in seen])
        regression = LogisticRegression(C=self.c).fit(columns, labels[cuts[0] :])
        self.coefficients_: list[float] = regression.coef_[0].tolist()
        self.intercept_ = float(regression.intercept_[0])
