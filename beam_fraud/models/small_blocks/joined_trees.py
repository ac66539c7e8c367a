"""Join the trees of an ensemble to one tree, so that one call finds the leaves of all.

scikit-learn calls a compiled function for each tree, which costs a row more than its way through
the trees. Here an additional feature holds the number of a tree, and splits by it lead from the
root of the joined tree to the root of that tree. Each row is repeated for each number, and the same
compiled function finds all its leaves in one call. Nodes are those of the model, so leaves are too.
Boosting takes `leaf_masks` instead, of codes from a few rows on: half to three quarters of the time
of joined trees for 1 and 8 rows, a fifth for 64.

Microseconds of 1, 8 and 64 rows on one processor:

| | boosting, 120 trees, 15 features | forest, 100 trees, 30 features | bits |
|---|---|---|---|
| the model itself (scikit-learn 1.9) | 740, 710, 880 | 4400, 4400, 5100 | |
| joined trees | 16, 63, 440 | 15, 76, 1300 | equal |
| NumPy, all trees one level at a time | 43, 106, 530 | | equal |
| ONNX Runtime 1.32, double precision | 8, 14, 55 | 10, 25, 300 | 198 and 37 of 256 differ |
| treelite 4.8 without a compiler | 55, 77, 720 | 51, 210, 1500 | 217 of 256 and none differ |
| tl2cgen 1.0, compiled by gcc | 43, 29, 80 | 64, 260, 1800 | as treelite |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from beam_fraud.models.small_blocks.columns import Lookup, lookups_of
from beam_fraud.models.small_blocks.leaf_masks import TOGETHER, LeafMasks

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
#: Rows from which masks of leaves are faster than joined trees, where a feature has codes.
_FEWEST_FOR_MASKS = 5
#: Rows from which sums of columns are worth a transposition.
_MANY_ROWS = 32


def added(values: Floats) -> Floats:
    """Return the sum of each row, float64[n] of float64[n, trees].

    The numbers are added one after the other as scikit-learn does; `sum` adds in pairs.
    """
    if len(values) < _MANY_ROWS:
        return np.asarray(np.add.accumulate(values, axis=1)[:, -1])
    # Whole rows are added one after the other, a sixth of the time.
    return np.asarray(np.add.reduce(np.ascontiguousarray(values.T), axis=0))


def entrance(roots: Places) -> tuple[Places, Places, Floats]:
    """Return the splits by the number of a tree that lead to the root of that tree.

    Args:
      roots: int64[trees], the node of each tree's root; the first `trees - 1` nodes are the splits.

    Returns:
      int64[trees - 1], int64[trees - 1], float64[trees - 1]: node of numbers up to the threshold,
      node of the others, threshold.

    Example:
      >>> entrance(np.array([2, 5, 8]))
      (array([2, 5]), array([1, 8]), array([0.5, 1.5]))
    """
    left, right = np.empty(len(roots) - 1, np.int64), np.empty(len(roots) - 1, np.int64)
    threshold = np.empty(len(roots) - 1)
    waiting = [(0, 0, len(roots))]
    while waiting:
        node, first, end = waiting.pop()
        if end - first == 1:
            continue
        middle = (first + end) // 2
        # A subtree of k roots has k - 1 splits, numbered from its topmost on.
        below, above = (node + 1, first, middle), (node + middle - first, middle, end)
        left[node], right[node] = (
            roots[start] if stop - start == 1 else at for at, start, stop in (below, above)
        )
        threshold[node] = middle - 0.5
        waiting += [below, above]
    return left, right, threshold


def _roots(sizes: Sequence[int]) -> Places:
    """Return the place of each tree's root: after the entrance, one tree after the other."""
    return len(sizes) - 1 + np.cumsum([0, *sizes[:-1]], dtype=np.int64)


def _repeated(block: npt.NDArray[Any], numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return each row once per number, with the number as its last column."""
    rows, features = block.shape
    wide = np.empty((rows, len(numbers), features + 1), numbers.dtype)
    wide[:, :, :features] = block[:, None]
    wide[:, :, features] = numbers
    return wide.reshape(-1, features + 1)


def _thresholds(feature: Places, threshold: Floats, features: int) -> list[Floats]:
    """Return the distinct thresholds of each feature."""
    return [np.unique(threshold[feature == place]) for place in range(features)]


class JoinedForest:
    """The trees of scikit-learn's forests, in single precision."""

    def __init__(
        self,
        trees: Sequence[Any],
        values: Sequence[Floats],
        features: int,
        origins: Sequence[Places] | None = None,
    ) -> None:
        """Copy the nodes.

        Args:
          trees: `tree_` of each fitted tree.
          values: float64[nodes] of each tree.
          features: number of features of a block.
          origins: of each tree, the places of its features in the block; None if each takes all.
        """
        nodes = [np.array(tree.__getstate__()["nodes"]) for tree in trees]
        roots = _roots([len(part) for part in nodes])
        for at, (root, part) in enumerate(zip(roots.tolist(), nodes, strict=True)):
            splits = part["left_child"] >= 0
            part["left_child"][splits] += root
            part["right_child"][splits] += root
            if origins is not None:
                part["feature"][splits] = np.asarray(origins[at])[part["feature"][splits]]
        top: npt.NDArray[Any] = np.zeros(len(nodes) - 1, nodes[0].dtype)
        top["left_child"], top["right_child"], top["threshold"] = entrance(roots)
        top["feature"] = features
        joined: npt.NDArray[Any] = np.concatenate([top, *nodes])
        self._values = np.concatenate([np.zeros(len(top)), *values])
        levels = int(np.ceil(np.log2(len(nodes))))
        self._tree = type(trees[0])(features + 1, np.array([1], dtype=np.intp), 1)
        self._tree.__setstate__(
            {
                "max_depth": levels + max(int(tree.max_depth) for tree in trees),
                "node_count": len(joined),
                "nodes": joined,
                "values": self._values.reshape(-1, 1, 1),
            }
        )
        self._numbers = np.arange(len(nodes), dtype=np.float32)
        inner = np.flatnonzero(joined["left_child"] >= 0)[len(top) :]
        #: Distinct thresholds of each feature.
        self.thresholds = _thresholds(
            joined["feature"][inner], joined["threshold"][inner], features
        )

    def leaf_values(self, block: Floats) -> Floats:
        """Return the value of each tree's leaf, float64[n, trees], of float64[n, features]."""
        values: Floats = self._values[self._tree.apply(_repeated(block, self._numbers))]
        return values.reshape(len(block), -1)

    def paths(self, block: Floats) -> tuple[Places, Places]:
        """Return the nodes on the way of each row through each tree.

        Args:
          block: float64[n, features].

        Returns:
          The nodes, counted through all trees, and the row of each: row by row, tree by tree, from
          the root on.
        """
        path = self._tree.decision_path(_repeated(block, self._numbers))
        rows = np.repeat(np.arange(len(block)), np.diff(path.indptr[:: len(self._numbers)]))
        nodes = path.indices - (len(self._numbers) - 1)
        within = nodes >= 0
        return nodes[within], rows[within]


_JOINED: WeakKeyDictionary[Any, JoinedForest] = WeakKeyDictionary()


def joined_forest(model: Any) -> JoinedForest:
    """Return the trees of a fitted two-class forest or tree; values are shares of frauds.

    Predictions and reasons of a model share them: their nodes take as much memory as the model's.

    Raises:
      TypeError: it has another number of classes.
    """
    joined = _JOINED.get(model)
    if joined is None:
        trees = [tree.tree_ for tree in getattr(model, "estimators_", [model])]
        if any(tree.value.shape[1:] != (1, 2) for tree in trees):
            raise TypeError("the trees have another number of classes")
        shares = [tree.value[:, 0, 1] for tree in trees]
        joined = _JOINED[model] = JoinedForest(trees, shares, int(model.n_features_in_))
    return joined


class JoinedRecords:
    """Trees in the node records of scikit-learn's histogram gradient boosting.

    They are private, as is the function that walks through them.
    """

    def __init__(
        self,
        predictor: Any,
        nodes: Sequence[npt.NDArray[Any]],
        sets: Sequence[npt.NDArray[np.uint32]],
        known: tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]],
    ) -> None:
        """Join the nodes, which are changed.

        Args:
          predictor: `TreePredictor`.
          nodes: the records of each tree.
          sets: uint32[sets, 8] of each tree, the codes that go to the left of a split.
          known: uint32[.., 8], the codes that are not absent, and uint32[features], the place there
            of each feature.
        """
        roots, features = _roots([len(part) for part in nodes]), len(known[1])
        before = np.cumsum([0, *(len(part) for part in sets[:-1])]).tolist()
        for root, part, skipped in zip(roots.tolist(), nodes, before, strict=True):
            part["left"] += root
            part["right"] += root
            part["bitset_idx"] += skipped
        top: npt.NDArray[Any] = np.zeros(len(nodes) - 1, nodes[0].dtype)
        top["left"], top["right"], top["num_threshold"] = entrance(roots)
        top["feature_idx"] = features
        self._tree = predictor(np.concatenate([top, *nodes]), None, np.concatenate(sets))
        self._known, self._places = known[0], np.append(known[1], np.uint32(0))
        self._numbers = np.arange(len(nodes), dtype=np.float64)
        every: npt.NDArray[Any] = np.concatenate(nodes)
        splits = every[(every["is_leaf"] == 0) & (every["is_categorical"] == 0)]
        #: Distinct thresholds of each feature.
        self.thresholds = _thresholds(splits["feature_idx"], splits["num_threshold"], features)

    def leaf_values(self, rows: npt.NDArray[Any]) -> Floats:
        """Return the value of each tree's leaf, float64[n, trees], of float[n, features]."""
        leaves = self._tree.predict(
            _repeated(rows, self._numbers), self._known, self._places, n_threads=1
        )
        return np.asarray(leaves, dtype=np.float64).reshape(len(rows), -1)


class JoinedBoosting:
    """The trees of scikit-learn's histogram gradient boosting of two classes."""

    def __init__(self, model: Any) -> None:
        trees = [tree for (tree,) in model._predictors]
        first: npt.NDArray[Any] = np.zeros(1, trees[0].nodes.dtype)
        first["value"], first["is_leaf"] = np.ravel(model._baseline_prediction)[0], 1
        # The baseline is a tree of one leaf: sums begin with it.
        nodes = [first, *(np.array(tree.nodes) for tree in trees)]
        sets = [np.empty((0, 8), np.uint32), *(tree.raw_left_cat_bitsets for tree in trees)]
        known = model._bin_mapper.make_known_categories_bitsets()
        self._masks = LeafMasks.of(nodes, sets, known)
        self._joined = JoinedRecords(type(trees[0]), nodes, sets, known)
        self._prepare = BoostingColumns(model)
        #: Distinct thresholds of each feature of a block.
        self.thresholds = [
            self._joined.thresholds[place] for place in np.argsort(self._prepare.origins)
        ]

    @property
    def of_any_size(self) -> bool:
        """Return whether blocks of any size are faster here than in the model."""
        return self._masks is not None

    def log_odds(self, block: Floats) -> Floats:
        """Return the log-odds, float64[n], of float64[n, features]."""
        masks, rows = self._masks, self._prepare(block)
        if masks is None or not (masks.fast_for_few or len(rows) >= _FEWEST_FOR_MASKS):
            return added(self._joined.leaf_values(rows))
        if len(rows) <= TOGETHER:
            return added(masks.leaf_values(rows))
        odds = np.empty(len(rows))
        for start in range(0, len(rows), TOGETHER):
            part = slice(start, start + TOGETHER)
            odds[part] = added(masks.leaf_values(rows[part]))
        return odds


class BoostingColumns:
    """The columns that the trees of histogram gradient boosting take: categories first, encoded."""

    def __init__(self, model: Any) -> None:
        categorical = np.zeros(int(model.n_features_in_), dtype=bool)
        self._encoded: list[tuple[int, Lookup]] = []
        if model.is_categorical_ is not None:
            categorical = np.asarray(model.is_categorical_, dtype=bool)
            encoder = model._preprocessor.named_transformers_["encoder"]
            places = np.flatnonzero(categorical).tolist()
            self._encoded = list(zip(places, lookups_of(encoder), strict=True))
        #: int64[features], place in the block of each feature of the trees.
        self.origins = np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])

    def __call__(self, block: Floats) -> Floats:
        """Return float64[n, features] as the trees take it, NaN where a value is absent."""
        if not self._encoded:
            return block
        prepared = block[:, self.origins]
        for at, (place, codes) in enumerate(self._encoded):
            prepared[:, at] = codes(block[:, place])[:, 0]
        return prepared
