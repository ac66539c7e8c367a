"""What every kind of model can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import UsageError
from beam_fraud.extras import need_extras
from beam_fraud.models.kinds.refused_settings import refused_settings
from beam_fraud.models.labelled import LabelledRows
from beam_fraud.models.predict import predict_scores
from beam_fraud.models.space import Space
from beam_fraud.models.threads import set_single_threaded


@dataclass(frozen=True)
class ModelKind(ABC):
    """A recipe for a model; its fields are the settings, with defaults for imbalanced data."""

    #: What the command line calls it.
    name: ClassVar[str]
    #: Where tuning looks for better settings.
    space: ClassVar[Space] = {}
    #: Whether labels teach it anything; they choose the threshold of every kind.
    supervised: ClassVar[bool] = True

    #: Optional modules without which it cannot be fitted, each one of `extras.EXTRAS`.
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """An unfitted scikit-learn classifier that takes NaN in any column.

        Only `fit` says all to it: which columns are categories, or what frauds weigh.

        Args:
          rows: what it will be fitted on.
          seed: of everything random in it.
        """

    def check_packages(self) -> None:
        """Check that what fitting needs is installed, before there are any rows.

        Raises:
          FraudError: a package is not; its extra is named.
        """
        need_extras(self.needs, f"--model {self.name}")
        for part in self.parts.values():
            part.check_packages()

    @property
    def parts(self) -> Mapping[str, ModelKind]:
        """Name to kind of what this one is made of; nothing unless it is an ensemble."""
        return {}

    def with_part(self, name: str, part: ModelKind) -> Self:
        """The kind with another part of this name."""
        raise KeyError(name)

    @property
    def settings(self) -> dict[str, Any]:
        """Name to value of every setting, those of parts as in `forest.trees`."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "members"}
        inner = {
            f"{name}.{setting}": value
            for name, part in self.parts.items()
            for setting, value in part.settings.items()
        }
        return {**own, **inner}

    def with_values(self, **values: Any) -> Self:
        """The kind with other values for some of its settings."""
        return replace(self, **values)

    def of(self, members: Sequence[ModelKind]) -> ModelKind:
        """An ensemble of other kinds.

        Raises:
          UsageError: this kind is none.
        """
        raise UsageError(f"--model {self.name}: has no members")

    def fit(self, rows: LabelledRows, seed: int) -> Any:
        """A classifier fitted on rows of both classes, set to predict on one thread."""
        model = self.estimator(rows, seed)
        with refused_settings(self.name):
            model.fit(rows.matrix, rows.labels)
        set_single_threaded(model)
        return model

    def files(self, model: Any) -> dict[str, bytes]:
        """What goes into a bundle beside the model.

        Args:
          model: as `fit` gave it.

        Returns:
          Name to contents; each name is one of `models.bundle.OPTIONAL_FILES`.
        """
        return {}

    def validate(
        self, train: LabelledRows, valid: LabelledRows, seed: int
    ) -> tuple[Self, npt.NDArray[np.float64]]:
        """Choose what settings there are to choose.

        Args:
          train: rows of both classes, to fit on.
          valid: later rows of both classes, to choose by their average precision.
          seed: of everything random.

        Returns:
          The kind with the settings that did best, and its scores of the validation rows,
          float64[len(valid)].
        """
        return self, predict_scores(self.fit(train, seed), valid.matrix)
