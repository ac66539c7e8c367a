"""Preprocessing for models that take numbers without NaN."""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from beam_fraud.models.labelled import LabelledRows


def scaled_columns(rows: LabelledRows, max_categories: int) -> ColumnTransformer:
    """Return median imputation, scaling and one-hot encoding.

    Args:
      rows: the rows to fit on; they name the categorical columns.
      max_categories: maximum of columns of a categorical feature; rarer ones share one.

    Returns:
      An unfitted transformer to float64[n, columns] without NaN: numbers first, then categories.
    """
    numeric = [i for i in range(rows.matrix.shape[1]) if i not in rows.categorical]
    # NaN counts as a category: the encoder gives it its own column.
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=max_categories, sparse_output=False
    )
    numbers = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    )
    return ColumnTransformer(
        [("numeric", numbers, numeric), ("categorical", encoder, list(rows.categorical))]
    )
