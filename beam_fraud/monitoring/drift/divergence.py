"""Divergences of two distributions over the same bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]
#: Rows added to each bin, so that an empty one makes no infinite index.
_ADDED = 0.5


def psi(one: Numbers, other: Numbers) -> Floats:
    """Return the population stability index of two tables of counts, [..., bins] each.

    The sum over bins of (p - q) ln(p / q), where p and q are shares with half a row added to each
    bin. By convention, 0.1 is a moderate and 0.25 a large change.

    Example:
      >>> round(float(psi(np.array([50, 50]), np.array([500, 500]))), 3)
      0.0
    """
    p, q = _smoothed(one), _smoothed(other)
    index: Floats = ((p - q) * np.log(p / q)).sum(axis=-1)
    return index


def jensen_shannon(one: Numbers, other: Numbers) -> Floats:
    """Return the Jensen-Shannon divergence of two tables of counts [..., bins], in nats.

    It is from 0 (equal) to ln 2 (disjoint), and 0 without rows on one side (Lin 1991).

    Example:
      >>> round(float(jensen_shannon(np.array([1, 0]), np.array([0, 1]))), 3)
      0.693
    """
    p, q = _shares(one), _shares(other)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(p > 0, p * np.log(p / middle), 0.0)
        parts += np.where(q > 0, q * np.log(q / middle), 0.0)
    none = (np.sum(one, axis=-1) == 0) | (np.sum(other, axis=-1) == 0)
    return np.where(none, 0.0, np.maximum(parts.sum(axis=-1) / 2, 0.0))


class Between(NamedTuple):
    """Bounds of a figure."""

    least: float
    most: float


def kolmogorov_smirnov(one: Numbers, other: Numbers) -> Between:
    """Return bounds of the largest distance of two distribution functions.

    At the edges of bins the functions are known exactly; within a bin, either may jump first.

    Args:
      one, other: counts of increasing bins, [bins].

    Example:
      >>> kolmogorov_smirnov(np.array([1, 1]), np.array([2, 0]))
      Between(least=0.5, most=1.0)
    """
    p, q = _shares(one), _shares(other)
    after = np.cumsum(p - q)
    before = np.concatenate([[0.0], after[:-1]])
    least = float(np.abs(after).max(initial=0.0))
    most = float(np.maximum(before + p, q - before).max(initial=0.0))
    return Between(least, min(max(least, most), 1.0))


def _smoothed(counts: Numbers) -> Floats:
    shares: Floats = (counts + _ADDED) / (counts + _ADDED).sum(axis=-1, keepdims=True)
    return shares


def _shares(counts: Numbers) -> Floats:
    shares: Floats = counts / np.maximum(np.sum(counts, axis=-1, keepdims=True), 1e-300)
    return shares
