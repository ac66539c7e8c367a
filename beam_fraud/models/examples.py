"""Labelled transactions, and the features of chosen rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.metrics import average_precision_score

from beam_fraud.features.matrix import FeatureSet, categories_of, feature_matrix
from beam_fraud.models.folds import Fold
from beam_fraud.schema.schema import Schema

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelledRows:
    """The features and labels of n transactions."""

    #: float64[n, features], NaN where a value is absent.
    matrix: npt.NDArray[np.float64]
    #: int8[n], 1 is fraud.
    labels: npt.NDArray[np.int8]
    #: Positions of the columns that hold category codes.
    categorical: tuple[int, ...] = ()
    #: int64[n]: how many transactions each stands for where settings are chosen; None for one.
    weights: Positions | None = None

    def take(self, positions: npt.NDArray[np.int64]) -> LabelledRows:
        """Return the rows at these positions, int64[m], in this order."""
        weights = None if self.weights is None else self.weights[positions]
        return replace(
            self, matrix=self.matrix[positions], labels=self.labels[positions], weights=weights
        )

    def average_precision(self, scores: npt.NDArray[np.float64]) -> float:
        """Return the average precision of scores of these rows, float64[n]."""
        return float(average_precision_score(self.labels, scores, sample_weight=self.weights))


@dataclass(frozen=True)
class Examples:
    """n labelled transactions."""

    #: Rows as `Schema.transactions(labels="required")` describes them, in time order.
    transactions: pa.Table
    #: int8[n], 1 is fraud.
    labels: npt.NDArray[np.int8]
    #: The schema of the rows.
    schema: Schema
    #: int64[n]: how often each row is fitted on, for rows that stand for others; None for once.
    repeats: Positions | None = None

    def learn(self, at: Positions) -> tuple[FeatureSet, LabelledRows]:
        """Return the features of rows to fit on; their categories are all that the model knows.

        A row that stands for several occurs as often, next to itself: every kind of model and every
        resampler takes such rows, and few take weights.
        """
        if self.repeats is not None:
            at = np.repeat(at, self.repeats[at])
        table = self.transactions.take(pa.array(at))
        categories = {
            feature.column: categories_of(table.column(feature.column))
            for feature in self.schema.features
            if feature.kind == "categorical"
        }
        features = FeatureSet(self.schema, categories)
        return features, self._labelled(table, at, features)

    def rows(self, at: Positions, features: FeatureSet) -> LabelledRows:
        """Return the features of other rows, each once, with the categories of the fitted rows."""
        rows = self._labelled(self.transactions.take(pa.array(at)), at, features)
        return rows if self.repeats is None else replace(rows, weights=self.repeats[at])

    def amounts(self, at: Positions) -> npt.NDArray[np.float64]:
        """Return the amounts of the transactions at these positions, float64[len(at)]."""
        amounts = self.transactions.column("amount").take(pa.array(at))
        return np.asarray(amounts.to_numpy(), dtype=np.float64)

    def _labelled(self, table: pa.Table, at: Positions, features: FeatureSet) -> LabelledRows:
        return LabelledRows(feature_matrix(table, features), self.labels[at], features.categorical)


@dataclass(frozen=True)
class FoldRows:
    """The rows of each fold, built on demand, so that memory holds one fold."""

    #: All transactions.
    examples: Examples
    #: The rows of each fold.
    folds: tuple[Fold, ...]

    def __len__(self) -> int:
        return len(self.folds)

    def __iter__(self) -> Iterator[tuple[LabelledRows, LabelledRows]]:
        """Yield the training rows and validation rows of each fold."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> tuple[LabelledRows, LabelledRows]:
        fold = self.folds[number]
        features, train = self.examples.learn(fold.train)
        return train, self.examples.rows(fold.valid, features)
