"""What says how much each feature moved a score."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: What contributions add up in: log-odds of the score, or the score itself.
Unit = Literal["log-odds", "probability"]


class Explainer(Protocol):
    """Contributions of features to the scores of one model."""

    @property
    def approximate(self) -> bool:
        """Whether contributions are estimates, and not Shapley values of the model."""

    @property
    def unit(self) -> Unit:
        """What contributions are told in."""

    def contributions(self, block: Floats) -> Floats:
        """Return what each feature added to the score of each row.

        Args:
          block: float64[n, features] as the model takes it, n > 0; NaN where a value is absent.

        Returns:
          float64[n, features]; above 0 where a feature raised the score. Those of a row do not
          depend on the others.
        """


class UnexplainableError(Exception):
    """A model is not made as an explainer expects; another one must serve."""
