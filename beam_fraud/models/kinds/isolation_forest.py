"""Isolation forest: find outliers without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest as Isolation
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from beam_fraud.errors import Code, UsageError
from beam_fraud.models.estimators.anomalies import CategoryShares, RankedAnomalies
from beam_fraud.models.examples import LabelledRows
from beam_fraud.models.kinds.base import Choice, ModelKind, Real, Space, Whole


@dataclass(frozen=True)
class IsolationForest(ModelKind):
    """Random trees that isolate unusual rows in few splits: for data without reliable labels.

    Fitting ignores labels; only the threshold and tuning use them. Expect far lower figures than
    from any kind that learns from frauds.
    """

    name: ClassVar[str] = "isolation_forest"
    supervised: ClassVar[bool] = False
    space: ClassVar[Space] = {
        "trees": Whole(50, 400, log=True),
        "max_samples": Choice((64, 256, 1024, 4096)),
        "max_features": Real(0.2, 1.0),
    }

    #: Trees; each costs time at every prediction.
    trees: int = 100
    #: Maximum rows per tree: with many rows, similar frauds hide each other.
    max_samples: int = 256
    #: Share of the features per tree.
    max_features: float = 1.0
    #: Cores to fit with, -1 for all; predictions use one.
    fit_jobs: int = -1

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
          UsageError: a setting is out of its range.
        """
        for name in ("trees", "max_samples"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"--set {name}={getattr(self, name)}: must be at least 1", Code.MODEL_SETTING
                )
        if not 0 < self.max_features <= 1:
            raise UsageError(
                f"--set max_features={self.max_features:g}: must be above 0, up to 1",
                Code.MODEL_SETTING,
            )

    def estimator(self, rows: LabelledRows, seed: int) -> Any:
        """Return the forest after medians for absent numbers and row shares for categories."""
        numeric = [i for i in range(rows.matrix.shape[1]) if i not in rows.categorical]
        medians = SimpleImputer(strategy="median", keep_empty_features=True)
        columns = ColumnTransformer(
            [
                ("numeric", medians, numeric),
                ("categorical", CategoryShares(), list(rows.categorical)),
            ]
        )
        forest = Isolation(
            n_estimators=self.trees,
            max_samples=min(self.max_samples, len(rows.matrix)),
            max_features=self.max_features,
            n_jobs=self.fit_jobs,
            random_state=seed,
        )
        return RankedAnomalies(make_pipeline(columns, forest))
