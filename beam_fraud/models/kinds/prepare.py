"""What goes before a model that takes numbers only, none of them absent."""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from beam_fraud.models.labelled import LabelledRows


def scaled_columns(rows: LabelledRows, max_categories: int) -> ColumnTransformer:
    """Medians for absent numbers, scaling, and a column for each category.

    Args:
      rows: what it will be fitted on; their categorical columns are told apart.
      max_categories: columns that a categorical feature becomes at most; rarer ones share one.

    Returns:
      An unfitted transformer to float64[n, columns] without NaN: numbers first, then categories.
    """
    numeric = [i for i in range(rows.matrix.shape[1]) if i not in rows.categorical]
    # An absent category is a category: the encoder gives NaN a column of its own.
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=max_categories, sparse_output=False
    )
    numbers = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    )
    return ColumnTransformer(
        [("numeric", numbers, numeric), ("categorical", encoder, list(rows.categorical))]
    )
