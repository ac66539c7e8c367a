"""The trees of scikit-learn's histogram gradient boosting, for ONNX.

They are private to scikit-learn; what is made of them is compared with the model before it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.models.known_codes import codes_of, known_codes
from beam_fraud.models.onnx.tree_nodes import Leaf, Mode, Split, Tree


def hist_gradient_boosting_trees(model: Any) -> list[Tree]:
    """The trees of a fitted classifier of two classes; what they give sums up to log-odds."""
    order = _original_positions(model)
    known = known_codes(model)
    trees: list[Tree] = [[Leaf(float(np.ravel(model._baseline_prediction)[0]))]]
    for (predictor,) in model._predictors:
        left_sets = codes_of(predictor.raw_left_cat_bitsets)
        trees.append([_node(node, order, left_sets, known) for node in predictor.nodes])
    return trees


def _node(
    node: Any,
    order: npt.NDArray[np.int64],
    left_sets: npt.NDArray[np.bool_],
    known: npt.NDArray[np.bool_],
) -> Leaf | Split:
    if node["is_leaf"]:
        return Leaf(float(node["value"]))
    feature, missing = int(node["feature_idx"]), bool(node["missing_go_to_left"])
    left, right = int(node["left"]), int(node["right"])
    if not node["is_categorical"]:
        threshold = float(node["num_threshold"])
        return Split(int(order[feature]), threshold, Mode.AT_MOST, missing, left, right)
    # A code that was not there in training goes where absent ones go: name those of the other side.
    in_left = left_sets[node["bitset_idx"]] & known[feature]
    in_right = known[feature] & ~in_left
    named = np.flatnonzero(in_right if missing else in_left)
    members = tuple(float(code) for code in named)
    holds, fails = (right, left) if missing else (left, right)
    return Split(int(order[feature]), members, Mode.MEMBER, False, holds, fails)


def _original_positions(model: Any) -> npt.NDArray[np.int64]:
    """Where the features of the trees are in the matrix: categories come first in the trees."""
    if model.is_categorical_ is None:
        return np.arange(model.n_features_in_)
    categorical = np.asarray(model.is_categorical_, dtype=bool)
    return np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])
