"""The interface of explainers, which measure the contribution of each feature to a score."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Unit of contributions: log-odds of the score, or the score itself.
Unit = Literal["log-odds", "probability"]


class Explainer(Protocol):
    """Contributions of features to the scores of one model."""

    @property
    def approximate(self) -> bool:
        """Whether contributions are estimates, and not Shapley values of the model."""

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
