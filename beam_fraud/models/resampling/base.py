"""The interface of a resampler, a kind with resampled training rows, and neighbour columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from beam_fraud.errors import Code, FraudError, UsageError, extra_module, need_extras
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import ModelKind, Wrapped

Floats = npt.NDArray[np.float64]

#: Name of the option, for error messages.
OPTION = "--resample"
#: Maximum of columns of a categorical feature where only distances count.
MOST_CATEGORIES = 20


@dataclass(frozen=True)
class Resampler(ABC):
    """A resampler, which makes frauds less rare among training rows.

    Only training rows are resampled: validation and held-out rows are scored as they are.
    """

    #: Name on the command line.
    name: ClassVar[str]
    #: Its effect on scores, for the model card.
    effect: ClassVar[str]
    #: Whether it compares every pair of rows, so that time grows with the square of their number.
    compares_pairs: ClassVar[bool] = False

    @abstractmethod
    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """Return the resampled training rows.

        Raises:
          FraudError: the rows do not allow it, or imbalanced-learn is not installed.
        """

    def fit(self, kind: ModelKind, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on resampled rows; it predicts without imbalanced-learn."""
        return kind.fit(self.resample(rows, seed), seed)

    def validate(
        self,
        kind: ModelKind,
        train: LabelledRows,
        resampled: LabelledRows,
        valid: LabelledRows,
        seed: int,
    ) -> tuple[ModelKind, Floats]:
        """Choose the kind's settings: fit on resampled rows, score untouched ones.

        Args:
          kind: the kind to train.
          train: training rows before resampling.
          resampled: the result of `resample` on them.
          valid: validation rows.
          seed: of everything random.

        Returns:
          The kind with the best settings, and the scores of the validation rows,
          float64[len(valid)].
        """
        return kind.validate(resampled, valid, seed)

    def files(self, kind: ModelKind, model: Any) -> dict[str, bytes]:
        """Return the files of a bundle beside a model of `fit`."""
        return kind.files(model)

    def check(self, rows: LabelledRows) -> None:
        """Check that resampling would change the rows.

        Raises:
          FraudError: the rows already have the requested share of frauds.
        """
        target = self.ratio
        if target is None:
            return
        frauds = int(rows.labels.sum())
        now = frauds / max(len(rows.labels) - frauds, 1)
        if now >= target:
            raise FraudError(
                f"{OPTION} {self}: the rows to fit on already have {now:.3g} frauds to a genuine "
                f"one; give a higher ratio, or none of this",
                Code.RESAMPLING_IMPOSSIBLE,
            )

    @property
    def ratio(self) -> float | None:
        """Return the target of frauds per genuine row; None without such a target."""
        return getattr(self, "frauds_per_genuine", None)

    def with_ratio(self, ratio: float) -> Resampler:
        """Return the resampler with another ratio.

        Raises:
          ValueError: it has no ratio.
        """
        if not any(field.name == "frauds_per_genuine" for field in fields(self)):
            raise ValueError(self.name)
        changes: dict[str, Any] = {"frauds_per_genuine": ratio}
        return replace(self, **changes)

    def __str__(self) -> str:
        """Return its form on the command line."""
        return self.name if self.ratio is None else f"{self.name}={self.ratio:g}"

    def check_packages(self) -> None:
        """Check that imbalanced-learn is installed, before rows are read.

        Raises:
          FraudError: it is missing; the message names the extra.
        """
        need_extras(["imblearn"], f"{OPTION} {self.name}")

    def library(self, module: str) -> ModuleType:
        """Import a module of imbalanced-learn.

        Raises:
          FraudError: imbalanced-learn is not installed.
        """
        return extra_module(f"imblearn.{module}", f"{OPTION} {self.name}")


@dataclass(frozen=True)
class Resampled(Wrapped):
    """A wrapper that resamples the training rows of its kind."""

    name: ClassVar[str] = "resampled"

    #: The resampler.
    resampler: Resampler
    #: Rows, and frauds among them, that `validate` fitted the kind on.
    fitted_on: tuple[int, int] | None = field(default=None, compare=False, repr=False)

    def check_packages(self) -> None:
        """Check the packages of the resampler, then of the kind."""
        self.resampler.check_packages()
        super().check_packages()

    @property
    def settings(self) -> dict[str, Any]:
        """Return the kind's settings and the resampler."""
        return {**self.kind.settings, "resample": str(self.resampler)}

    def files(self, model: Any) -> dict[str, bytes]:
        """Return the kind's files, if the model is the kind's."""
        return self.resampler.files(self.kind, model)

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on resampled rows."""
        return self.resampler.fit(self.kind, rows, seed)

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose the kind's settings: fit on resampled rows, score untouched ones."""
        rows = self.resampler.resample(train, seed)
        kind, scores = self.resampler.validate(self.kind, train, rows, valid, seed)
        sizes = len(rows.labels), int(rows.labels.sum())
        return replace(self, kind=kind, fitted_on=sizes), scores


def with_resampler(kind: ModelKind, resampler: Resampler | None) -> ModelKind:
    """Return a kind with resampled training rows; in an ensemble, each member resamples.

    An ensemble itself needs the original rows: stacking learns in time order, which synthetic rows
    do not have.

    Raises:
      UsageError: the kind ignores labels.
    """
    if resampler is None:
        return kind
    for name, part in kind.parts.items():
        if part.supervised:
            kind = kind.with_part(name, with_resampler(part, resampler))
    if kind.parts:
        return kind
    if not kind.supervised:
        raise UsageError(
            f"{OPTION} {resampler}: {kind.name} learns from no labels", Code.RESAMPLING_IMPOSSIBLE
        )
    return Resampled(kind, resampler)


def resamplers_of(kind: ModelKind) -> tuple[Resampler, ...]:
    """Return the distinct resamplers of a kind and its members."""
    own = (kind.resampler,) if isinstance(kind, Resampled) else ()
    inner = (resampler for part in kind.parts.values() for resampler in resamplers_of(part))
    return tuple(dict.fromkeys((*own, *inner)))


def rows_fitted_on(kind: ModelKind) -> tuple[int, int] | None:
    """Return the resampled rows, and frauds among them, of the kind or its first member."""
    if isinstance(kind, Resampled):
        return kind.fitted_on
    return next(filter(None, map(rows_fitted_on, kind.parts.values())), None)


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
