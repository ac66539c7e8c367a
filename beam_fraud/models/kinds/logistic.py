"""Logistic regression: the baseline, and the model whose weights one can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows


@dataclass(frozen=True)
class Logistic(ModelKind):
    """Medians for absent numbers, scaling, a column for each category, then the regression."""

    name: ClassVar[str] = "logistic"

    #: Inverse strength of the L2 penalty.
    c: float = 1.0
    #: Columns that a categorical feature has at most; rarer categories share one.
    max_categories: int = 100
    #: Iterations of the solver at most.
    max_iter: int = 1000

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """The pipeline, imputation and scaling within it.

        Frauds weigh as much as genuine rows, or so few of them hardly move the regression: on the
        ULB transactions that is worth 0.1 of average precision. It makes scores large, too.
        """
        numeric = [i for i in range(rows.matrix.shape[1]) if i not in rows.categorical]
        # An absent category is a category: the encoder gives NaN a column of its own.
        encoder = OneHotEncoder(
            handle_unknown="infrequent_if_exist",
            max_categories=self.max_categories,
            sparse_output=False,
        )
        numbers = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
        )
        columns = ColumnTransformer(
            [("numeric", numbers, numeric), ("categorical", encoder, list(rows.categorical))]
        )
        regression = LogisticRegression(
            C=self.c, class_weight="balanced", max_iter=self.max_iter, random_state=seed
        )
        return make_pipeline(columns, regression)
