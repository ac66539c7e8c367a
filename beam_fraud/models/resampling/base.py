"""The interface of a resampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import Code, FraudError, extra_module, need_extras
from beam_fraud.models.kinds.base import ModelKind
from beam_fraud.models.labelled import LabelledRows

Floats = npt.NDArray[np.float64]

#: Name of the option, for error messages.
OPTION = "--resample"


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
        wanted = self.ratio
        if wanted is None:
            return
        frauds = int(rows.labels.sum())
        now = frauds / max(len(rows.labels) - frauds, 1)
        if now >= wanted:
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
