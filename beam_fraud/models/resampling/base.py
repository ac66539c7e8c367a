"""What every way to resample can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import FraudError, extra_module, need_extras
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows

Floats = npt.NDArray[np.float64]

#: What asks for a resampler, in messages.
OPTION = "--resample"


@dataclass(frozen=True)
class Resampler(ABC):
    """A way to make frauds less rare among the rows that a model is fitted on.

    Only `fit` and what `validate` fits on is resampled: no resampler is ever given a row that
    chooses or is reported on, other than to score it.
    """

    #: What the command line calls it.
    name: ClassVar[str]
    #: How it moves the scores, for the model card.
    effect: ClassVar[str]
    #: Whether it looks at every pair of rows, so that its time grows with their square.
    compares_pairs: ClassVar[bool] = False

    @abstractmethod
    def resample(self, rows: LabelledRows, seed: int) -> LabelledRows:
        """Other rows to fit on in place of these.

        Raises:
          FraudError: it can't be done with these rows, or imbalanced-learn isn't installed.
        """

    def fit(self, kind: ModelKind, rows: LabelledRows, seed: int) -> Any:
        """Return a classifier fitted on resampled rows; it can do without imbalanced-learn."""
        return kind.fit(self.resample(rows, seed), seed)

    def validate(
        self,
        kind: ModelKind,
        train: LabelledRows,
        resampled: LabelledRows,
        valid: LabelledRows,
        seed: int,
    ) -> tuple[ModelKind, Floats]:
        """Choose the kind's settings by fitting on resampled rows and looking at untouched ones.

        Args:
          kind: what is trained.
          train: rows to fit on, as they are.
          resampled: what `resample` made of them.
          valid: rows to choose by.
          seed: of everything random.

        Returns:
          The kind with the settings that did best, and the scores of the validation rows,
          float64[len(valid)].
        """
        return kind.validate(resampled, valid, seed)

    def files(self, kind: ModelKind, model: Any) -> dict[str, bytes]:
        """Return what goes into a bundle beside a model that `fit` has made."""
        return kind.files(model)

    def check(self, rows: LabelledRows) -> None:
        """Make sure that there is something to do.

        Raises:
          FraudError: the rows have as many frauds already as are asked for.
        """
        wanted = self.ratio
        if wanted is None:
            return
        frauds = int(rows.labels.sum())
        now = frauds / max(len(rows.labels) - frauds, 1)
        if now >= wanted:
            raise FraudError(
                f"{OPTION} {self}: the rows to fit on already have {now:.3g} frauds to a genuine "
                f"one; give a higher ratio, or none of this"
            )

    @property
    def ratio(self) -> float | None:
        """Frauds to a genuine row afterwards; None where that is not what is asked for."""
        return getattr(self, "frauds_per_genuine", None)

    def with_ratio(self, ratio: float) -> Resampler:
        """Return the same with another ratio.

        Raises:
          ValueError: it has none.
        """
        if not any(field.name == "frauds_per_genuine" for field in fields(self)):
            raise ValueError(self.name)
        changes: dict[str, Any] = {"frauds_per_genuine": ratio}
        return replace(self, **changes)

    def __str__(self) -> str:
        """As the command line gives it."""
        return self.name if self.ratio is None else f"{self.name}={self.ratio:g}"

    def check_packages(self) -> None:
        """Check that imbalanced-learn is installed, before there are any rows.

        Raises:
          FraudError: it isn't; the extra is named.
        """
        need_extras(["imblearn"], f"{OPTION} {self.name}")

    def library(self, module: str) -> ModuleType:
        """Return a module of imbalanced-learn.

        Raises:
          FraudError: it isn't installed.
        """
        return extra_module(f"imblearn.{module}", f"{OPTION} {self.name}")
