"""Exact Shapley values of ensembles of trees, for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from beam_fraud.reasons.leaf_shapley import Floats
from beam_fraud.reasons.leaf_tables import LeafTables, widest_table
from beam_fraud.reasons.slots import slots_of
from beam_fraud.reasons.tree_paths import Leaf
from beam_fraud.reasons.wide_leaves import WideLeaves

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
