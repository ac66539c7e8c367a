"""The interface of a kind of model, its search space, and columns that several kinds prepare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from beam_fraud.errors import Code, UsageError, need_extras
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.predict import predict_scores, set_single_threaded
from beam_fraud.wording import first_line


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int
    #: Whether the scale is logarithmic.
    log: bool = False


@dataclass(frozen=True)
class Real:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    #: Whether the scale is logarithmic.
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[str | int | float | bool | None, ...]


#: Name of a setting to its search space.
Space = dict[str, Whole | Real | Choice]


@dataclass(frozen=True)
class ModelKind(ABC):
    """A recipe for a model; its fields are the settings, with defaults for imbalanced data."""

    #: Name on the command line.
    name: ClassVar[str]
    #: Search space of tuning.
    space: ClassVar[Space] = {}
    #: Whether it learns from labels; they choose the threshold of every kind.
    supervised: ClassVar[bool] = True

    #: Optional modules that fitting needs, each one of `errors.EXTRAS`.
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return an unfitted scikit-learn classifier that takes NaN in any column.

        Only `fit` passes everything: which columns are categories, or the weight of frauds.

        Args:
          rows: the rows to fit on.
          seed: of everything random in it.
        """

    def check_packages(self) -> None:
        """Check that the packages of fitting are installed, before rows are read.

        Raises:
          FraudError: a package is missing; the message names its extra.
        """
        need_extras(self.needs, f"--model {self.name}")
        for part in self.parts.values():
            part.check_packages()

    @property
    def parts(self) -> Mapping[str, ModelKind]:
        """Return name to kind of an ensemble's members; empty for other kinds."""
        return {}

    def with_part(self, name: str, part: ModelKind) -> Self:
        """Return the kind with another part of this name."""
        raise KeyError(name)

    @property
    def settings(self) -> dict[str, Any]:
        """Return name to value of every setting; a part's as in `forest.trees`."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "members"}
        inner = {
            f"{name}.{setting}": value
            for name, part in self.parts.items()
            for setting, value in part.settings.items()
        }
        return {**own, **inner}

    def with_values(self, **values: Any) -> Self:
        """Return the kind with other values of some settings."""
        return replace(self, **values)

    def of(self, members: Sequence[ModelKind]) -> ModelKind:
        """Return an ensemble of other kinds.

        Raises:
          UsageError: this kind is no ensemble.
        """
        raise UsageError(f"--model {self.name}: has no members", Code.MODEL_KIND)

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on rows of both classes, set to predict on one thread."""
        model = self.estimator(rows, seed)
        with refused_settings(self.name):
            model.fit(rows.matrix, rows.labels)
        set_single_threaded(model)
        # From 1.9 on, scikit-learn's forests keep the weight of each row: whether it was a fraud.
        if hasattr(model, "_sample_weight"):
            model._sample_weight = None
        return model

    def files(self, model: Any) -> dict[str, bytes]:
        """Return the files of a bundle beside the model.

        Args:
          model: the result of `fit`.

        Returns:
          Name to contents; each name is one of `models.bundle.OPTIONAL_FILES`.
        """
        return {}

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose settings by the validation rows.

        Args:
          train: training rows of both classes.
          valid: later rows of both classes; their average precision decides.
          seed: of everything random.

        Returns:
          The kind with the best settings, and its scores of the validation rows,
          float64[len(valid)].
        """
        return self, predict_scores(self.fit(train, seed), valid.matrix)


#: Exceptions by which libraries refuse a setting; by name, because most are optional.
_REFUSALS = frozenset(("InvalidParameterError", "XGBoostError", "LightGBMError"))


@contextmanager
def refused_settings(kind: str) -> Iterator[None]:
    """Convert a library's refusal of a setting while fitting this kind.

    Raises:
      UsageError: the library refuses a setting.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in _REFUSALS:
            raise
        reason = first_line(error)
        raise UsageError(
            f"--model {kind}: a setting is refused ({reason}); see --set", Code.MODEL_SETTING
        ) from None


@dataclass(frozen=True)
class Wrapped(ModelKind):
    """A wrapper that has the name, search space and files of the kind inside."""

    name: ClassVar[str] = "wrapped"

    #: The wrapped kind.
    kind: ModelKind

    def __post_init__(self) -> None:
        """Take the name and search space of the wrapped kind: a user asked for that kind."""
        object.__setattr__(self, "name", self.kind.name)
        object.__setattr__(self, "space", self.kind.space)

    def check_packages(self) -> None:
        self.kind.check_packages()

    @property
    def settings(self) -> dict[str, Any]:
        return self.kind.settings

    def with_values(self, **values: Any) -> Self:
        """Return the wrapper with other settings of the wrapped kind."""
        return replace(self, kind=self.kind.with_values(**values))

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        return self.kind.estimator(rows, seed)

    def files(self, model: Any) -> dict[str, bytes]:
        return self.kind.files(model)


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
