"""Exact Shapley values of ensembles of trees, for many rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Slot:
    """Condition number i of every leaf that has so many.

    Leaves are sorted by how many conditions they have, most first, so these are the first ones.
    """

    #: How many leaves have it.
    leaves: int
    #: float64[features, leaves], 1 where the leaf's condition is on the feature.
    sums: csr_array


def slots_of(feature: npt.NDArray[np.int64], features: int) -> list[Slot]:
    """Return the slots of sorted leaves.

    Args:
      feature: int64[leaves, slots], -1 where a leaf has fewer.
      features: how many there are.
    """
    slots = []
    for column in feature.T:
        leaves = int(np.count_nonzero(column >= 0))
        if leaves:
            slots.append(Slot(leaves, sums_of(column[:leaves], features)))
    return slots


def sums_of(origin: npt.NDArray[np.int64], features: int) -> csr_array:
    """The matrix float64[features, n] that adds n rows up by the feature of each, in order."""
    places = (origin, np.arange(len(origin)))
    return csr_array((np.ones(len(origin)), places), shape=(features, len(origin)))


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


#: Leaves with more features than this have no table: one more doubles its size.
_WIDEST = 12
#: Numbers in the tables of a model at most, 8 bytes each.
_LARGEST = 1 << 23


def widest_table(sizes: npt.NDArray[np.int64]) -> int:
    """Return how many features leaves with a table have at most, so that the tables stay small.

    Args:
      sizes: int64[leaves], how many features each has.
    """
    numbers = [int(np.count_nonzero(sizes == u)) * u * 2**u for u in range(_WIDEST + 1)]
    return int(np.count_nonzero(np.cumsum(numbers) <= _LARGEST)) - 1


class LeafTables:
    """The tables of many leaves as one array."""

    def __init__(self, values: Floats, shares: Floats, sizes: npt.NDArray[np.int64]) -> None:
        """Compute the tables.

        Args:
          values: float64[leaves], what a row gets that reaches the leaf.
          shares: float64[leaves, slots], of training rows that satisfy each condition.
          sizes: int64[leaves], how many slots each leaf has.
        """
        tables, start = [], 0
        #: int64[leaves], where the table of each begins.
        self._start = np.zeros(len(sizes), dtype=np.int64)
        #: int64[leaves], how many numbers it has for a slot.
        self._length = 2**sizes
        for size in np.unique(sizes).tolist():
            here = np.flatnonzero(sizes == size)
            table = tabulate(values[here], shares[here, :size])
            tables.append(table.ravel())
            self._start[here] = start + np.arange(len(here)) * table[0].size
            start += table.size
        self._table = np.concatenate([*tables, np.empty(0)])

    def add(
        self, masks: npt.NDArray[np.unsignedinteger], slots: Sequence[Slot], to: Floats
    ) -> None:
        """Add the contributions of rows.

        Args:
          masks: [leaves, n], what each row satisfies.
          slots: what adds the first leaves' contributions up.
          to: float64[features, n], where to.
        """
        for number, slot in enumerate(slots):
            starts = self._start[: slot.leaves] + number * self._length[: slot.leaves]
            places = np.add(masks[: slot.leaves], starts[:, None], dtype=np.intp)
            to += slot.sums @ np.take(self._table, places, mode="clip")


class WideLeaves:
    """As `tabulate`, for what rows do satisfy."""

    def __init__(self, values: Floats, shares: Floats, sizes: npt.NDArray[np.int64]) -> None:
        """Take leaves as `LeafTables` does."""
        slots = np.arange(int(sizes.max(initial=0)))
        self._values = values[:, None]
        self._absent = slots >= sizes[:, None]
        # What is absent is satisfied by all rows: a factor of 1.
        self._shares = np.where(self._absent, 1.0, shares[:, slots])[:, :, None]
        self._points = list(zip(*quadrature(len(slots)), strict=True))

    def add(
        self, masks: npt.NDArray[np.unsignedinteger], slots: Sequence[Slot], to: Floats
    ) -> None:
        """Add the contributions of rows, as `LeafTables.add` does."""
        bits = masks[:, None] >> np.arange(len(slots), dtype=masks.dtype)[:, None] & 1
        satisfied = bits.astype(bool) | self._absent[:, :, None]
        integral = np.zeros(satisfied.shape)
        for point, weight in self._points:
            factors = (1 - point) * self._shares + point * satisfied
            # One after the other: numpy's product takes another order where there is one row.
            product = weight * factors[:, 0]
            for other in range(1, len(slots)):
                product *= factors[:, other]
            integral += np.divide(product[:, None], factors, out=factors)
        integral *= satisfied - self._shares
        integral *= self._values[:, None]
        for number, slot in enumerate(slots):
            to += slot.sums @ integral[: slot.leaves, number]


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
    """Yield the leaves of a tree that has splits."""
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


#: Bits of a mask.
MOST_FEATURES = 32
#: Conditions times rows that are looked at together: some tens of megabytes.
_TOGETHER = 1 << 22


class TreeShapley:
    """What each leaf gives to the features of its path, by which conditions a row satisfies."""

    def __init__(self, leaves: Sequence[Leaf], features: int) -> None:
        """Prepare the leaves.

        Args:
          leaves: with at most `MOST_FEATURES` features each.
          features: of the model.
        """
        leaves = sorted(leaves, key=lambda leaf: -len(leaf.conditions))
        sizes = np.array([len(leaf.conditions) for leaf in leaves], dtype=np.int64)
        width = int(sizes.max(initial=0))
        self._features = features
        self._leaves = len(leaves)
        self._conditions = int(sizes.sum())
        self._mask = np.dtype("u1" if width <= 8 else "u2" if width <= 16 else "u4")
        paths = [list(leaf.conditions.items()) for leaf in leaves]
        values = np.array([leaf.value for leaf in leaves])
        shares, feature = np.ones((len(leaves), width)), np.full((len(leaves), width), -1)
        for place, path in enumerate(paths):
            shares[place, : len(path)] = [condition.share for _, condition in path]
            feature[place, : len(path)] = [name for name, _ in path]
        wide = int(np.count_nonzero(sizes > widest_table(sizes)))
        self._slots = slots_of(feature, features)
        #: Kinds of leaves, which of all these are, and their slots.
        self._parts = [
            (kind(values[here], shares[here], sizes[here]), here, slots_of(feature[here], features))
            for kind, here in ((WideLeaves, slice(wide)), (LeafTables, slice(wide, None)))
            if len(values[here])
        ]
        #: For each feature the bins that satisfy its conditions.
        self._admitted: list[tuple[int, npt.NDArray[np.bool_]]] = []
        #: For each leaf and slot the condition's row among those of all features.
        self._row = np.full(feature.shape, -1)
        row = 0
        for name in range(features):
            places = np.argwhere(feature == name)
            if len(places):
                bins = [paths[leaf][slot][1].admitted for leaf, slot in places]
                self._row[places[:, 0], places[:, 1]] = np.arange(row, row + len(places))
                self._admitted.append((name, np.array(bins)))
                row += len(places)

    def contributions(self, bins: npt.NDArray[np.int64]) -> Floats:
        """Shapley values of rows.

        Args:
          bins: int64[n, features], the bin of each value.

        Returns:
          float64[n, features]; those of a row do not depend on the others.
        """
        added = np.zeros((len(bins), self._features))
        step = max(1, _TOGETHER // max(self._conditions, 1))
        for first in range(0, len(bins), step):
            rows = np.ascontiguousarray(bins[first : first + step].T)
            masks = self._masks(rows)
            to = np.zeros((self._features, rows.shape[1]))
            for part, here, slots in self._parts:
                part.add(masks[here], slots, to)
            added[first : first + step] = to.T
        return added

    def _masks(self, bins: npt.NDArray[np.int64]) -> npt.NDArray[np.unsignedinteger]:
        """Bit i of [leaves, n] says whether a row satisfies condition i of the leaf."""
        masks = np.zeros((self._leaves, bins.shape[1]), dtype=self._mask)
        if self._admitted:
            held = [np.take(table, bins[name], axis=1) for name, table in self._admitted]
            satisfied = np.concatenate(held).view(np.uint8)
            for number, slot in enumerate(self._slots):
                bit = np.take(satisfied, self._row[: slot.leaves, number], axis=0)
                masks[: slot.leaves] |= np.left_shift(bit, number, dtype=self._mask)
        return masks
