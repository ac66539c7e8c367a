"""Exact Shapley values of ensembles of trees, for many rows at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from beam_fraud.reasons.leaf_shapley import Floats, quadrature, tabulate
from beam_fraud.reasons.tree_paths import Leaf

#: Leaves with so many features at most have a table; one more doubles its size.
_TABULATED = 10
#: Bits of a mask.
MOST_FEATURES = 31
#: Conditions times rows that are looked at together.
_TOGETHER = 1 << 20


class TreeShapley:
    """Values of leaves that were computed beforehand for all that a row may satisfy.

    Leaves are sorted by how many features they have, most first, so that those that have a
    feature number i on their path are always the first ones.
    """

    def __init__(self, leaves: Sequence[Leaf], features: int) -> None:
        """Compute the tables.

        Args:
          leaves: with at most `MOST_FEATURES` features each.
          features: of the model.
        """
        leaves = sorted(leaves, key=lambda leaf: -len(leaf.conditions))
        sizes = np.array([len(leaf.conditions) for leaf in leaves], dtype=np.int64)
        self._features = features
        self._with = [int(np.count_nonzero(sizes > slot)) for slot in range(sizes.max(initial=0))]
        self._wide = int(np.count_nonzero(sizes > _TABULATED))
        self._conditions = int(sizes.sum())
        conditions = [list(leaf.conditions.items()) for leaf in leaves]
        self._values = np.array([leaf.value for leaf in leaves])
        self._shares = np.ones((len(leaves), len(self._with)))
        feature = np.full(self._shares.shape, -1)
        for place, path in enumerate(conditions):
            self._shares[place, : len(path)] = [condition.share for _, condition in path]
            feature[place, : len(path)] = [name for name, _ in path]
        self._absent = feature < 0
        self._tabulate(sizes)
        #: For each slot the matrix that adds up what its leaves give to their features.
        self._add = [_adding(feature[: self._with[s], s], features) for s in range(len(self._with))]
        #: For each feature the bins that satisfy its conditions, and where these are.
        self._admitted: list[tuple[int, npt.NDArray[np.bool_]]] = []
        #: For each slot and leaf the condition's row among those of all features.
        self._row = np.full(self._shares.shape, -1)
        row = 0
        for name in range(features):
            places = np.argwhere(feature == name)
            if len(places):
                bins = [conditions[leaf][slot][1].admitted for leaf, slot in places]
                self._row[places[:, 0], places[:, 1]] = np.arange(row, row + len(places))
                self._admitted.append((name, np.array(bins)))
                row += len(places)

    def _tabulate(self, sizes: npt.NDArray[np.int64]) -> None:
        tables, starts, start = [], np.zeros(len(sizes), dtype=np.int64), 0
        for size in range(_TABULATED, 0, -1):
            here = np.flatnonzero(sizes == size)
            if len(here):
                table = tabulate(self._values[here], self._shares[here, :size])
                tables.append(table.ravel())
                starts[here] = start + np.arange(len(here)) * table[0].size
                start += table.size
        self._table = np.concatenate([*tables, np.empty(0)])
        #: Where the table of each leaf begins, and how long that of one feature is.
        self._start, self._length = starts, 2 ** np.minimum(sizes, _TABULATED)

    def contributions(self, bins: npt.NDArray[np.int64]) -> Floats:
        """Shapley values of rows.

        Args:
          bins: int64[n, features], the bin of each value.

        Returns:
          float64[n, features]; those of a row do not depend on the others.
        """
        added = np.empty((len(bins), self._features))
        step = max(1, _TOGETHER // max(self._conditions, 1))
        for first in range(0, len(bins), step):
            rows = bins[first : first + step].T
            added[first : first + step] = self._explain(np.ascontiguousarray(rows)).T
        return added

    def _explain(self, bins: npt.NDArray[np.int64]) -> Floats:
        rows = bins.shape[1]
        satisfied = [np.take(table, bins[name], axis=1) for name, table in self._admitted]
        held = np.concatenate([*satisfied, np.empty((0, rows), dtype=bool)])
        masks = np.zeros((len(self._values), rows), dtype=np.int64)
        for slot, leaves in enumerate(self._with):
            masks[:leaves] |= held[self._row[:leaves, slot]].astype(np.int64) << slot
        added = np.zeros((self._features, rows))
        if self._wide:
            self._add_wide(masks[: self._wide], added)
        for slot, leaves in enumerate(self._with[:_TABULATED]):
            here = slice(self._wide, leaves)
            places = masks[here] + (self._start[here] + slot * self._length[here])[:, None]
            added += self._add[slot][:, here] @ self._table[places]
        return added

    def _add_wide(self, masks: npt.NDArray[np.int64], added: Floats) -> None:
        """Integrate anew for leaves that are too wide for a table; what is absent counts as 1."""
        shares = self._shares[: self._wide, :, None]
        slots = np.arange(shares.shape[1])[:, None]
        satisfied = (masks[:, None] >> slots & 1).astype(np.float64)
        np.copyto(satisfied, 1.0, where=self._absent[: self._wide, :, None])
        integral = np.zeros(satisfied.shape)
        for point, weight in zip(*quadrature(len(slots)), strict=True):
            factors = point * satisfied + (1 - point) * shares
            # One after the other: numpy's product takes another order where there is one row.
            product = factors[:, 0].copy()
            for slot in range(1, len(slots)):
                product *= factors[:, slot]
            integral += weight * product[:, None] / factors
        integral *= (satisfied - shares) * self._values[: self._wide, None, None]
        for slot, leaves in enumerate(self._with):
            here = slice(0, min(leaves, self._wide))
            added += self._add[slot][:, here] @ integral[here, slot]


def _adding(feature: npt.NDArray[np.int64], features: int) -> csr_array:
    places = (feature, np.arange(len(feature)))
    return csr_array((np.ones(len(feature)), places), shape=(features, len(feature)))
