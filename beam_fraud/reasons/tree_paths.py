"""The leaves of an ensemble of trees, and what a row must satisfy to reach each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tree:
    """One tree; node 0 is its root."""

    #: int64[nodes], -1 for a leaf.
    left: npt.NDArray[np.int64]
    #: int64[nodes], -1 for a leaf.
    right: npt.NDArray[np.int64]
    #: int64[nodes]: the feature that decides; of leaves anything.
    feature: npt.NDArray[np.int64]
    #: Which bins of the feature go left, bool[bins of the feature]; of leaves anything.
    goes_left: Sequence[npt.NDArray[np.bool_] | None]
    #: float64[nodes]: how many training rows came by.
    cover: npt.NDArray[np.float64]
    #: float64[nodes]: what a row gets that ends there.
    value: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """What the splits of a path demand of one feature."""

    #: Which of the feature's bins reach the leaf, bool[bins].
    admitted: npt.NDArray[np.bool_]
    #: Of the training rows that came to the splits, the share that went on towards the leaf.
    share: float


@dataclass(frozen=True)
class Leaf:
    """A leaf and its path."""

    #: What a row gets that reaches it.
    value: float
    #: Feature to condition.
    conditions: dict[int, Condition]


def leaves(tree: Tree) -> Iterator[Leaf]:
    """The leaves of a tree that has splits."""
    waiting: list[tuple[int, dict[int, Condition]]] = [(0, {})]
    while waiting:
        node, conditions = waiting.pop()
        admitted = tree.goes_left[node]
        if admitted is None:
            if conditions:
                yield Leaf(float(tree.value[node]), conditions)
            continue
        feature = int(tree.feature[node])
        left, right = int(tree.left[node]), int(tree.right[node])
        for child, bins in ((left, admitted), (right, ~admitted)):
            share = float(tree.cover[child] / tree.cover[node])
            known = conditions.get(feature)
            if known is not None:
                bins, share = bins & known.admitted, share * known.share
            waiting.append((child, {**conditions, feature: Condition(bins, share)}))
