"""Prepare columns in which resamplers find neighbours: imputed and scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from beam_fraud.models.labelled import LabelledRows

#: Maximum of columns of a categorical feature where only distances count.
MOST_CATEGORIES = 20


def numeric_columns(rows: LabelledRows) -> list[int]:
    """Return the positions of the numeric columns."""
    return [i for i in range(rows.matrix.shape[1]) if i not in rows.categorical]


def numbers() -> Any:
    """Return unfitted steps: median imputation, then standardisation."""
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    )


def neighbour_columns(rows: LabelledRows) -> Any:
    """Return an unfitted transformer to numbers without NaN whose distances compare rows."""
    encoder = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False
    )
    return ColumnTransformer(
        [
            ("numeric", numbers(), numeric_columns(rows)),
            ("categorical", encoder, list(rows.categorical)),
        ]
    )


def keep_by_neighbours(rows: LabelledRows, library: Any, sampler: Any) -> LabelledRows:
    """Return the rows that a cleaning sampler keeps, unchanged.

    Args:
      rows: numbers and category codes, NaN allowed.
      library: `imblearn.pipeline`.
      sampler: a sampler whose `sample_indices_` names the kept rows.
    """
    pipeline = library.Pipeline([("columns", neighbour_columns(rows)), ("sampler", sampler)])
    pipeline.fit_resample(rows.matrix, rows.labels)
    indices: npt.NDArray[np.int64] = np.sort(sampler.sample_indices_)
    return rows.take(indices)
