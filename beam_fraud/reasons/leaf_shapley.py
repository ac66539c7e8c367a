"""Shapley values of one leaf of a tree.

A row reaches a leaf if it satisfies a condition on each of the u features of its path. If a feature
is left out, the share of the training rows that satisfy its condition stands for it. So the game of
a leaf is a product, its multilinear extension at t is the product of `t * satisfied + (1 - t) *
share`, and a feature's Shapley value the integral of its derivative over t from 0 to 1 (Owen,
"Multilinear extensions of games", 1972). It is a polynomial of degree u - 1, which Gauss's
quadrature integrates exactly at half as many points. Summed over the leaves this is the
path-dependent value of TreeSHAP (Lundberg et al., 2020).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def quadrature(features: int) -> tuple[Floats, Floats]:
    """Points in 0..1 and their weights that are exact for leaves of so many features."""
    points, weights = np.polynomial.legendre.leggauss(max(1, (features + 1) // 2))
    return (points + 1) / 2, weights / 2


def tabulate(values: Floats, shares: Floats) -> Floats:
    """The Shapley values of leaves with equally many features, for all that a row may satisfy.

    Args:
      values: float64[leaves], what a row gets that reaches the leaf.
      shares: float64[leaves, u], of training rows that satisfy each condition.

    Returns:
      float64[leaves, u, 2**u]: of each feature, where bit i of the last index says whether
      condition i is satisfied.
    """
    u = shares.shape[1]
    satisfied = (np.arange(2**u) >> np.arange(u)[:, None] & 1).astype(np.float64)
    shares = shares[:, :, None]
    integral = np.zeros((len(values), u, 2**u))
    for point, weight in zip(*quadrature(u), strict=True):
        factors = point * satisfied + (1 - point) * shares
        integral += weight * (factors.prod(axis=1, keepdims=True) / factors)
    return values[:, None, None] * (satisfied - shares) * integral
