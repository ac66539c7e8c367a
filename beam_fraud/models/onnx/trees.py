"""Convert tree ensembles to ONNX.

The converters of skl2onnx and onnxmltools use single precision, in which a value and a different
threshold may become equal, and lack splits by category. Here both stay double. The trees of
scikit-learn's histogram gradient boosting are private attributes; `export_onnx` compares scores
before it writes a file.

skl2onnx 1.20 alone, on 28,930 rows of ULB: its graph in float64 of histogram gradient boosting does
not load, that in float32 differs by 7e-7, and with splits by category by up to 0.92 in 22,175 rows;
a forest's differs by 5e-8. These graphs differ by 8e-16 at most, and score a row in the same 1 to 3
microseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_fraud.errors import extra_module
from beam_fraud.models.kinds.hist_gradient_boosting import codes_of, known_codes
from beam_fraud.models.onnx.nodes import Nodes, UnsupportedError


class Mode(IntEnum):
    """Comparison of a split, numbered as in ONNX."""

    #: The value is at most the threshold.
    AT_MOST = 0
    #: The value is below the threshold.
    BELOW = 1
    #: The value is in a set.
    MEMBER = 6


@dataclass(frozen=True)
class Leaf:
    """A leaf of a tree."""

    #: Its value.
    value: float


@dataclass(frozen=True)
class Split:
    """A split of a tree."""

    #: Position of the split's feature.
    feature: int
    #: Threshold, or the members of the set.
    threshold: float | tuple[float, ...]
    #: Comparison that sends a row to `holds`.
    mode: Mode
    #: Whether a row with NaN goes to `holds`.
    missing_holds: bool
    #: Node number for rows that satisfy the comparison, within the tree.
    holds: int
    #: Node number for the others.
    fails: int


#: Nodes by number, the root first.
Tree = Sequence[Leaf | Split]


def tree_attributes(trees: Iterable[Tree]) -> dict[str, Any]:
    """Return the attributes of an operator that sums the trees' values of a row.

    Args:
      trees: each of one node or more.

    Returns:
      Attribute to value, as version 5 of the domain ai.onnx.ml names them.
    """
    table = _Table()
    for tree in trees:
        table.add(tree)
    tensor = extra_module("onnx", "--onnx").numpy_helper.from_array
    return {
        "aggregate_function": 1,
        "post_transform": 0,
        "n_targets": 1,
        "tree_roots": table.roots,
        "nodes_featureids": [split.feature for split in table.splits],
        "nodes_modes": tensor(np.array([s.mode for s in table.splits], dtype=np.uint8)),
        "nodes_splits": tensor(
            np.array([0.0 if isinstance(s.threshold, tuple) else s.threshold for s in table.splits])
        ),
        "nodes_missing_value_tracks_true": [int(s.missing_holds) for s in table.splits],
        "nodes_truenodeids": [at for at, _ in table.holds],
        "nodes_trueleafs": [int(leaf) for _, leaf in table.holds],
        "nodes_falsenodeids": [at for at, _ in table.fails],
        "nodes_falseleafs": [int(leaf) for _, leaf in table.fails],
        "leaf_targetids": [0] * len(table.leaves),
        "leaf_weights": tensor(np.array(table.leaves, dtype=np.float64)),
        **table.members(tensor),
    }


class _Table:
    """Splits and leaves of all trees, numbered separately as in ONNX."""

    def __init__(self) -> None:
        self.roots: list[int] = []
        self.splits: list[Split] = []
        self.leaves: list[float] = []
        self.holds: list[tuple[int, bool]] = []
        self.fails: list[tuple[int, bool]] = []

    def add(self, tree: Tree) -> None:
        """Add the nodes of one tree."""
        if isinstance(tree[0], Leaf):
            # A root must be a split: both branches of a tree without a split lead to its leaf.
            tree = [Split(0, 0.0, Mode.AT_MOST, True, 1, 1), tree[0]]
        places: list[tuple[int, bool]] = []
        splits, leaves = len(self.splits), len(self.leaves)
        for node in tree:
            places.append((leaves, True) if isinstance(node, Leaf) else (splits, False))
            leaves, splits = (
                (leaves + 1, splits) if isinstance(node, Leaf) else (leaves, splits + 1)
            )
        self.roots.append(places[0][0])
        for node in tree:
            if isinstance(node, Leaf):
                self.leaves.append(node.value)
            else:
                self.splits.append(node)
                self.holds.append(places[node.holds])
                self.fails.append(places[node.fails])

    def members(self, tensor: Any) -> dict[str, Any]:
        """Return the sets of all set splits, a NaN after each; empty without set splits."""
        sets = [s.threshold for s in self.splits if isinstance(s.threshold, tuple)]
        if not sets:
            return {}
        return {"membership_values": tensor(np.array([v for s in sets for v in (*s, np.nan)]))}


def forest_trees(model: Any) -> list[Tree]:
    """Return the trees of a fitted forest or tree; their values sum up to the score.

    Args:
      model: the forest; its trees compare float32 values with float64 thresholds.
    """
    members = getattr(model, "estimators_", [model])
    return [_forest_tree(member.tree_, len(members)) for member in members]


def _forest_tree(tree: Any, trees: int) -> Tree:
    counts = tree.value[:, 0, :]
    shares = counts[:, 1] / counts.sum(axis=1) / trees
    missing = tree.missing_go_to_left
    return [
        Leaf(float(shares[at]))
        if left < 0
        else Split(int(feature), float(threshold), Mode.AT_MOST, bool(to_left), left, right)
        for at, (left, right, feature, threshold, to_left) in enumerate(
            zip(
                tree.children_left.tolist(),
                tree.children_right.tolist(),
                tree.feature,
                tree.threshold,
                missing,
                strict=True,
            )
        )
    ]


def hist_gradient_boosting_trees(model: Any) -> list[Tree]:
    """Return the trees of a fitted two-class classifier; their values sum up to log-odds."""
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
    # A code absent from training goes where NaN goes, so name the codes of the other branch.
    in_left = left_sets[node["bitset_idx"]] & known[feature]
    in_right = known[feature] & ~in_left
    named = np.flatnonzero(in_right if missing else in_left)
    members = tuple(float(code) for code in named)
    holds, fails = (right, left) if missing else (left, right)
    return Split(int(order[feature]), members, Mode.MEMBER, False, holds, fails)


def _original_positions(model: Any) -> npt.NDArray[np.int64]:
    """Return the matrix positions of the trees' features: categories come first in the trees."""
    if model.is_categorical_ is None:
        return np.arange(model.n_features_in_)
    categorical = np.asarray(model.is_categorical_, dtype=bool)
    return np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])


def lightgbm_trees(model: Any) -> list[Tree]:
    """Return the trees of a fitted two-class `LGBMClassifier`; their values sum up to log-odds.

    Raises:
      UnsupportedError: it treats 0 as absent, or minimises another loss than the log loss.
    """
    dumped = model.booster_.dump_model()
    if not dumped["objective"].startswith("binary sigmoid:1"):
        raise UnsupportedError(f"LightGBM with the objective {dumped['objective']}")
    return [_lightgbm_tree(tree["tree_structure"]) for tree in dumped["tree_info"]]


def _lightgbm_tree(root: dict[str, Any]) -> Tree:
    nodes: list[Leaf | Split] = []
    _append(root, nodes)
    return nodes


def _append(node: dict[str, Any], nodes: list[Leaf | Split]) -> int:
    """Append a node and its descendants; return its number."""
    at = len(nodes)
    nodes.append(Leaf(float(node.get("leaf_value", 0.0))))
    if "split_feature" not in node:
        return at
    left, right = (_append(node[side], nodes) for side in ("left_child", "right_child"))
    feature = int(node["split_feature"])
    if node["decision_type"] == "==":
        codes = tuple(float(code) for code in str(node["threshold"]).split("||"))
        # NaN goes to the right, as do categories outside the set.
        nodes[at] = Split(feature, codes, Mode.MEMBER, False, left, right)
        return at
    threshold = float(node["threshold"])
    if node["missing_type"] == "Zero":
        raise UnsupportedError("LightGBM that takes 0 for absent")
    # If training had no NaN, a NaN counts as 0.
    missing = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
    nodes[at] = Split(feature, threshold, Mode.AT_MOST, bool(missing), left, right)
    return at


def xgboost_trees(model: Any) -> list[Tree]:
    """Return the trees of a fitted `XGBClassifier`; their values sum up to log-odds.

    They compare float32 values with float32 thresholds.

    Raises:
      UnsupportedError: its trees are weighted, or it minimises another loss than the log loss.
    """
    booster = model.get_booster()
    if model.early_stopping_rounds:
        booster = booster[: model.best_iteration + 1]
    learner = json.loads(booster.save_raw("json"))["learner"]
    if learner["objective"]["name"] != "binary:logistic":
        raise UnsupportedError(f"XGBoost with the objective {learner['objective']['name']}")
    if learner["gradient_booster"]["name"] != "gbtree":
        raise UnsupportedError(f"XGBoost with the booster {learner['gradient_booster']['name']}")
    base = float(learner["learner_model_param"]["base_score"].strip("[]"))
    trees: list[Tree] = [[Leaf(math.log(base / (1 - base)))]]
    trees += [_xgboost_tree(tree) for tree in learner["gradient_booster"]["model"]["trees"]]
    return trees


def _xgboost_tree(tree: dict[str, Any]) -> Tree:
    sets = {
        node: tuple(float(code) for code in tree["categories"][start : start + size])
        for node, start, size in zip(
            tree["categories_nodes"],
            tree["categories_segments"],
            tree["categories_sizes"],
            strict=True,
        )
    }
    nodes: list[Leaf | Split] = []
    for at, left in enumerate(tree["left_children"]):
        right, missing = tree["right_children"][at], bool(tree["default_left"][at])
        feature = tree["split_indices"][at]
        # The dump has the shortest decimal that is equal in single precision; in double it differs.
        condition = float(np.float32(tree["split_conditions"][at]))
        if left < 0:
            nodes.append(Leaf(condition))
        elif at in sets:
            # Codes in the set go to the right, others to the left.
            nodes.append(Split(feature, sets[at], Mode.MEMBER, not missing, right, left))
        else:
            nodes.append(Split(feature, condition, Mode.BELOW, missing, left, right))
    return nodes


#: Type of skl2onnx's converters: add nodes for an operator of a scope to a container.
Converter = Callable[[Any, Any, Any], None]


def tree_converter(read: Callable[[Any], list[Tree]], *, log_odds: bool, single: bool) -> Converter:
    """Return a converter for a class of tree ensembles.

    Args:
      read: function that extracts the trees of a fitted classifier.
      log_odds: whether their values sum up to log-odds, not to the score.
      single: whether they compare values in single precision.
    """

    def convert(scope: Any, operator: Any, container: Any) -> None:
        graph = Nodes(scope, container)
        source = operator.inputs[0].full_name
        source = graph.single(source) if single else source
        output = graph.add("TreeEnsemble", source, **tree_attributes(read(operator.raw_operator)))
        fraud = graph.add("Sigmoid", output) if log_odds else output
        graph.probabilities(fraud, operator)

    return convert
