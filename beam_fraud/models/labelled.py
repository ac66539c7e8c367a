"""Labelled rows to fit or measure a model on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LabelledRows:
    """The features and labels of n transactions."""

    #: float64[n, features], NaN where a value is absent.
    matrix: npt.NDArray[np.float64]
    #: int8[n], 1 is fraud.
    labels: npt.NDArray[np.int8]
    #: Positions of the columns that hold category codes.
    categorical: tuple[int, ...] = ()

    def take(self, positions: npt.NDArray[np.int64]) -> LabelledRows:
        """Return the rows at these positions, int64[m], in this order."""
        return replace(self, matrix=self.matrix[positions], labels=self.labels[positions])
