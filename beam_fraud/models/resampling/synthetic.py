"""Made-up frauds between real ones, in the units of the real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.neighbors import NearestNeighbors

from beam_fraud.errors import FraudError
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.resampling.neighbours import numbers, numeric_columns

Floats = npt.NDArray[np.float64]


def with_synthetic(rows: LabelledRows, library: Any, sampler: Any, option: str) -> LabelledRows:
    """The rows as they were, then the frauds that a sampler has made up.

    A sampler sees numbers that are imputed and scaled, then the category codes. Interpolating
    commutes with scaling, so what it makes is scaled back and the model needs no step before it.
    Trees would learn that a count of 2.7, or a row that lacks nothing, must be made up, and so
    a fraud; hence columns of whole numbers stay whole, and a made-up fraud lacks what the real
    fraud nearest to it lacks.

    Args:
      rows: numbers and category codes, NaN allowed.
      library: `imblearn.pipeline`.
      sampler: unfitted; of its rows the given ones come first.
      option: what asks, for messages.

    Raises:
      FraudError: there are too few frauds to have neighbours.
    """
    numeric = numeric_columns(rows)
    codes = SimpleImputer(strategy="constant", fill_value=-1.0, keep_empty_features=True)
    columns = ColumnTransformer(
        [("numeric", numbers(), numeric), ("categorical", codes, list(rows.categorical))]
    )
    pipeline = library.Pipeline([("columns", columns), ("sampler", sampler)])
    try:
        prepared, labels = pipeline.fit_resample(rows.matrix, rows.labels)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        frauds = int(rows.labels.sum())
        raise FraudError(
            f"{option}: can't make up frauds from {frauds} among {len(rows.labels)} rows ({reason})"
        ) from None
    given = len(rows.labels)
    made = np.asarray(prepared[given:], dtype=np.float64)
    scaled = made[:, : len(numeric)]
    matrix = np.empty((len(made), rows.matrix.shape[1]))
    scaler = columns.named_transformers_["numeric"][-1]
    matrix[:, numeric] = _kept_whole(scaler.inverse_transform(scaled), rows.matrix[:, numeric])
    absent = _lacking(scaled, np.asarray(prepared[:given])[:, : len(numeric)], rows)
    matrix[:, numeric] = np.where(absent[:, numeric], np.nan, matrix[:, numeric])
    made_codes = made[:, len(numeric) :]
    matrix[:, list(rows.categorical)] = np.where(made_codes < 0, np.nan, made_codes)
    return replace(
        rows,
        matrix=np.concatenate([rows.matrix, matrix]),
        labels=np.asarray(labels, dtype=np.int8),
    )


def _kept_whole(made: Floats, real: Floats) -> Floats:
    """Round the columns that hold nothing but whole numbers among the real rows."""
    whole = (np.isnan(real) | (real == np.rint(real))).all(axis=0)
    return np.where(whole, np.rint(made), made)


def _lacking(made: Floats, given: Floats, rows: LabelledRows) -> npt.NDArray[np.bool_]:
    """bool[made, features]: what the nearest real fraud lacks."""
    frauds = rows.labels == 1
    absent = np.isnan(rows.matrix[frauds])
    if not absent.any() or not len(made):
        return np.zeros((len(made), rows.matrix.shape[1]), dtype=bool)
    nearest = NearestNeighbors(n_neighbors=1).fit(given[frauds])
    return np.asarray(absent[nearest.kneighbors(made, return_distance=False)[:, 0]])
