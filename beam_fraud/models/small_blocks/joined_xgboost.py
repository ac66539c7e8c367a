"""The trees of XGBoost joined to one, in single precision as XGBoost computes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from beam_fraud.models.kinds.hist_gradient_boosting import CODES
from beam_fraud.models.onnx.trees import Leaf, Mode, Split, Tree, xgboost_trees
from beam_fraud.models.small_blocks.columns import BeyondRangeError
from beam_fraud.models.small_blocks.joined_trees import JoinedRecords

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

#: Log-odds below which XGBoost limits its exponential.
_LOWEST = -80.0


class JoinedXGBoost:
    """The trees of an `XGBClassifier` of two classes."""

    def __init__(self, model: Any) -> None:
        """Convert the trees.

        Raises:
          TypeError: the model has a number for absent values, or categories beyond those of a set.
        """
        # Private, so another version may lack them: only this model then predicts by itself.
        from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
        from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

        if not np.isnan(model.missing):
            raise TypeError("XGBoost that takes a number for absent")
        # The first tree is the base score, in double precision.
        _, *trees = xgboost_trees(model)
        features = int(model.n_features_in_)
        dtype = np.dtype(PREDICTOR_RECORD_DTYPE)
        records, sets = zip(*(_records(tree, dtype) for tree in trees), strict=True)
        first: npt.NDArray[Any] = np.zeros(1, dtype)
        first["value"], first["is_leaf"] = _base_margin(model), 1
        # All codes are known: those outside a set go the other way.
        every = np.full((features, 8), 2**32 - 1, np.uint32)
        known = every, np.arange(features, dtype=np.uint32)
        none = np.empty((0, 8), np.uint32)
        self._joined = JoinedRecords(TreePredictor, [first, *records], [none, *sets], known)
        splits = [node for tree in trees for node in tree if isinstance(node, Split)]
        self._categorical = sorted({s.feature for s in splits if s.mode == Mode.MEMBER})
        #: Distinct thresholds of each feature.
        self.thresholds = self._joined.thresholds

    def scores(self, block: Floats) -> Floats:
        """Return the scores, float64[n], of float64[n, features].

        Raises:
          BeyondRangeError: a category has a code that no set holds, or a score is nearly 0.
        """
        rows = block.astype(np.float32)
        if self._categorical:
            codes = rows[:, self._categorical]
            if ((codes < 0) | (codes >= CODES)).any():
                raise BeyondRangeError
        leaves: Single = self._joined.leaf_values(rows).astype(np.float32)
        margins = np.add.accumulate(leaves, axis=1)[:, -1]
        if (margins < _LOWEST).any():
            raise BeyondRangeError
        return np.asarray(expit(margins), dtype=np.float64)


def _base_margin(model: Any) -> np.float32:
    """Return the log-odds of the base score as XGBoost computes them."""
    learner = json.loads(model.get_booster().save_raw("json"))["learner"]
    base = np.float32(learner["learner_model_param"]["base_score"].strip("[]"))
    odds = np.float32(1) / base - np.float32(1)
    return np.float32(-np.log(np.float64(odds)))


def _records(tree: Tree, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint32]]:
    """Return the nodes of a tree as records, and the sets of its splits by category."""
    records: npt.NDArray[Any] = np.zeros(len(tree), dtype)
    sets: list[npt.NDArray[np.bool_]] = []
    for at, node in enumerate(tree):
        if isinstance(node, Leaf):
            records["value"][at], records["is_leaf"][at] = node.value, 1
            continue
        records["feature_idx"][at] = node.feature
        records["left"][at], records["right"][at] = node.holds, node.fails
        records["missing_go_to_left"][at] = node.missing_holds
        if isinstance(node.threshold, tuple):
            records["is_categorical"][at], records["bitset_idx"][at] = 1, len(sets)
            sets.append(_members(node.threshold))
        else:
            # A value below the threshold is at most the number before it.
            before = np.nextafter(np.float32(node.threshold), np.float32(-np.inf))
            records["num_threshold"][at] = before
    packed = np.packbits(np.array(sets, dtype=bool).reshape(-1, CODES), 1, bitorder="little")
    return records, packed.view(np.uint32)


def _members(codes: tuple[float, ...]) -> npt.NDArray[np.bool_]:
    """Return which codes are in a set, bool[256]."""
    places = np.array(codes, dtype=np.int64)
    if len(places) and places.max() >= CODES:
        raise TypeError(f"XGBoost with more than {CODES} categories")
    members = np.zeros(CODES, dtype=bool)
    members[places] = True
    return members
