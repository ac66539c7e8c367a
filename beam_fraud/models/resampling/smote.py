"""SMOTE, SMOTE-ENN and ADASYN: synthetic frauds between neighbouring frauds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.neighbors import NearestNeighbors

from beam_fraud.errors import Code, FraudError
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.resampling.base import (
    OPTION,
    Resampler,
    keep_by_neighbours,
    numbers,
    numeric_columns,
)
from beam_fraud.wording import first_line

Floats = npt.NDArray[np.float64]


def with_synthetic(rows: LabelledRows, library: Any, sampler: Any, option: str) -> LabelledRows:
    """Return the original rows, then a sampler's synthetic frauds.

    The sampler gets imputed and scaled numbers, then category codes. Interpolation commutes with
    scaling, so synthetic rows are scaled back and the model needs no extra step. Trees would learn
    that a count of 2.7, or a row without NaN, must be synthetic, and so a fraud; hence columns of
    whole numbers are rounded, and a synthetic fraud has NaN where the nearest real fraud has.

    Args:
      rows: numbers and category codes, NaN allowed.
      library: `imblearn.pipeline`.
      sampler: unfitted; it returns the original rows first.
      option: name of the option, for error messages.

    Raises:
      FraudError: there are too few frauds for neighbours.
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
        reason = first_line(error)
        frauds = int(rows.labels.sum())
        raise FraudError(
            f"{option}: can't make up frauds from {frauds} among {len(rows.labels)} rows "
            f"({reason})",
            Code.RESAMPLING_IMPOSSIBLE,
        ) from None
    real = len(rows.labels)
    synthetic = np.asarray(prepared[real:], dtype=np.float64)
    scaled = synthetic[:, : len(numeric)]
    matrix = np.empty((len(synthetic), rows.matrix.shape[1]))
    scaler = columns.named_transformers_["numeric"][-1]
    matrix[:, numeric] = _rounded(scaler.inverse_transform(scaled), rows.matrix[:, numeric])
    absent = _lacking(scaled, np.asarray(prepared[:real])[:, : len(numeric)], rows)
    matrix[:, numeric] = np.where(absent[:, numeric], np.nan, matrix[:, numeric])
    made_codes = synthetic[:, len(numeric) :]
    matrix[:, list(rows.categorical)] = np.where(made_codes < 0, np.nan, made_codes)
    return replace(
        rows,
        matrix=np.concatenate([rows.matrix, matrix]),
        labels=np.asarray(labels, dtype=np.int8),
    )


def _rounded(synthetic: Floats, real: Floats) -> Floats:
    """Round the columns that are whole among the real rows."""
    whole = (np.isnan(real) | (real == np.rint(real))).all(axis=0)
    return np.where(whole, np.rint(synthetic), synthetic)


def _lacking(synthetic: Floats, real: Floats, rows: LabelledRows) -> npt.NDArray[np.bool_]:
    """Return bool[made, features]: where the nearest real fraud has NaN."""
    frauds = rows.labels == 1
    absent = np.isnan(rows.matrix[frauds])
    if not absent.any() or not len(synthetic):
        return np.zeros((len(synthetic), rows.matrix.shape[1]), dtype=bool)
    nearest = NearestNeighbors(n_neighbors=1).fit(real[frauds])
    return np.asarray(absent[nearest.kneighbors(synthetic, return_distance=False)[:, 0]])


#: Note of the card on synthetic frauds.
SYNTHETIC_EFFECT = (
    "Frauds were made up until there were more of them than in reality, so scores are larger "
    "than the probability of fraud and are not corrected."
)


@dataclass(frozen=True)
class Smote(Resampler):
    """Synthetic minority over-sampling (Chawla et al. 2002).

    With categorical features it is SMOTE-NC: a synthetic fraud has the most frequent category of
    its neighbours.
    """

    name: ClassVar[str] = "smote"
    effect: ClassVar[str] = SYNTHETIC_EFFECT

    #: Frauds per genuine row afterwards, synthetic ones included.
    frauds_per_genuine: float = 0.1
    #: Neighbours to interpolate with.
    neighbours: int = 5

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """Return the rows, then synthetic frauds."""
        self.check(rows)
        over = self.library("over_sampling")
        settings = {
            "sampling_strategy": self.frauds_per_genuine,
            "k_neighbors": min(self.neighbours, max(int(rows.labels.sum()) - 1, 1)),
            "random_state": seed,
        }
        if rows.categorical:
            first = rows.matrix.shape[1] - len(rows.categorical)
            last = range(first, rows.matrix.shape[1])
            sampler = over.SMOTENC(categorical_features=list(last), **settings)
        else:
            sampler = over.SMOTE(**settings)
        return with_synthetic(rows, self.library("pipeline"), sampler, f"{OPTION} {self}")


@dataclass(frozen=True)
class SmoteEnn(Resampler):
    """SMOTE and edited nearest neighbours (Batista et al. 2004).

    It compares every pair of rows: time grows with the square of their number.
    """

    name: ClassVar[str] = "smote-enn"
    effect: ClassVar[str] = SYNTHETIC_EFFECT
    compares_pairs: ClassVar[bool] = True

    #: Frauds per genuine row after SMOTE, before rows are dropped.
    frauds_per_genuine: float = 0.1
    #: Neighbours that must all have the row's class.
    neighbours: int = 3

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """Return the remaining rows and synthetic frauds."""
        self.check(rows)
        # Not imbalanced-learn's SMOTEENN: codes must become columns between its two steps.
        smoted = Smote(self.frauds_per_genuine).resample(rows, seed)
        sampler = self.library("under_sampling").EditedNearestNeighbours(
            sampling_strategy="all", n_neighbors=self.neighbours
        )
        cleaned = keep_by_neighbours(smoted, self.library("pipeline"), sampler)
        if not 0 < cleaned.labels.sum() < len(cleaned.labels):
            raise FraudError(
                f"{OPTION} {self}: leaves rows of one class only; use smote",
                Code.RESAMPLING_IMPOSSIBLE,
            )
        return cleaned


@dataclass(frozen=True)
class Adasyn(Resampler):
    """Adaptive synthetic sampling (He et al. 2008).

    It has no variant for categories: no category lies between two others.
    """

    name: ClassVar[str] = "adasyn"
    effect: ClassVar[str] = SYNTHETIC_EFFECT

    #: Frauds per genuine row afterwards, approximately.
    frauds_per_genuine: float = 0.1
    #: Neighbours whose labels measure how hard a fraud is.
    neighbours: int = 5

    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """Return the rows, then synthetic frauds."""
        if rows.categorical:
            raise FraudError(
                f"{OPTION} {self}: there is nothing between two categories, and the schema has "
                "categorical features; use smote",
                Code.RESAMPLING_IMPOSSIBLE,
            )
        self.check(rows)
        sampler = self.library("over_sampling").ADASYN(
            sampling_strategy=self.frauds_per_genuine,
            n_neighbors=min(self.neighbours, max(int(rows.labels.sum()) - 1, 1)),
            random_state=seed,
        )
        return with_synthetic(rows, self.library("pipeline"), sampler, f"{OPTION} {self}")
