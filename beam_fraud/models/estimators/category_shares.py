"""Replace category codes by the shares of the categories."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin


class CategoryShares(TransformerMixin, BaseEstimator):
    """Map a code to its share of the fitted rows; an unknown code maps to 0.

    Codes are numbered by name, so a tree that splits them as numbers is arbitrary. Rarity is the
    signal that needs no labels. An absent code is a category too.
    """

    def fit(self, matrix: npt.NDArray[np.float64], labels: object = None) -> CategoryShares:
        """Count the codes of float64[n, columns], from 0 on and NaN where absent."""
        self.n_features_in_ = matrix.shape[1]
        self.shares_: list[npt.NDArray[np.float64]] = [
            np.bincount(_positions(column)) / len(column) for column in matrix.T
        ]
        return self

    def transform(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n, columns]: the share of each code."""
        out = np.zeros(matrix.shape, dtype=np.float64)
        for i, shares in enumerate(self.shares_):
            at = _positions(matrix[:, i])
            known = at < len(shares)
            out[known, i] = shares[at[known]]
        return out


def _positions(codes: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """int64[n]: 0 for an absent code, else one more than the code."""
    positions: npt.NDArray[np.int64] = np.nan_to_num(codes + 1, nan=0.0).astype(np.int64)
    return positions
