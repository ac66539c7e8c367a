"""The interface of explainers, which measure the contribution of each feature to a score.

An explainer can ignore the steps before a model if they keep columns apart (`keeps_columns`).
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

Floats = npt.NDArray[np.float64]
#: Unit of contributions: log-odds of the score, or the score itself.
Unit = Literal["log-odds", "probability"]
_SCALERS = (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)


class Explainer(Protocol):
    """Contributions of features to the scores of one model."""

    @property
    def approximate(self) -> bool:
        """Return whether contributions are estimates, and not Shapley values of the model."""

    @property
    def unit(self) -> Unit:
        """Unit of the contributions."""

    def contributions(self, block: Floats) -> Floats:
        """Return the contribution of each feature to each row's score.

        Args:
          block: float64[n, features] of the model, n > 0; NaN where a value is absent.

        Returns:
          float64[n, features]; positive where a feature raised the score. A row's values do not
          depend on other rows.
        """


class UnexplainableError(Exception):
    """An explainer does not support the model's structure; another one must explain it."""


def keeps_columns(step: Any) -> bool:
    """Return whether output column i of a fitted step depends on input column i alone."""
    if step is None or step == "passthrough" or isinstance(step, _SCALERS):
        return True
    if isinstance(step, SimpleImputer):
        # It drops columns without a value, and may add indicators of NaN.
        return len(step.get_feature_names_out()) == step.n_features_in_ and not step.add_indicator
    return False
