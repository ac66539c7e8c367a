"""Where resamplers look for a row's neighbours: absent values filled in, all columns alike wide."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from beam_fraud.models.labelled import LabelledRows

#: Columns that a categorical feature has at most when only distances count.
MOST_CATEGORIES = 20


def numeric_columns(rows: LabelledRows) -> list[int]:
    """Positions of the columns that are no category codes."""
    return [i for i in range(rows.matrix.shape[1]) if i not in rows.categorical]


def numbers() -> Any:
    """Medians for absent numbers, then standard deviations from the mean: unfitted steps."""
    return make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    )


def neighbour_columns(rows: LabelledRows) -> Any:
    """Numbers without NaN in which near rows are alike, a column for each category: unfitted."""
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
    """Return the rows that a cleaning sampler keeps, as they were.

    Args:
      rows: numbers and category codes, NaN allowed.
      library: `imblearn.pipeline`.
      sampler: says by `sample_indices_` what it has kept.
    """
    pipeline = library.Pipeline([("columns", neighbour_columns(rows)), ("sampler", sampler)])
    pipeline.fit_resample(rows.matrix, rows.labels)
    kept: npt.NDArray[np.int64] = np.sort(sampler.sample_indices_)
    return rows.take(kept)
