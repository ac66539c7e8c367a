"""The trees of LightGBM, for ONNX."""

from __future__ import annotations

from typing import Any

from beam_fraud.models.onnx.tree_nodes import Leaf, Mode, Split, Tree
from beam_fraud.models.onnx.unsupported import UnsupportedError


def lightgbm_trees(model: Any) -> list[Tree]:
    """The trees of a fitted `LGBMClassifier` of two classes; what they give sums up to log-odds.

    Raises:
      UnsupportedError: it takes 0 for absent, or minimises something else than the log loss.
    """
    dumped = model.booster_.dump_model()
    if not dumped["objective"].startswith("binary sigmoid:1"):
        raise UnsupportedError(f"LightGBM with the objective {dumped['objective']}")
    return [_tree(tree["tree_structure"]) for tree in dumped["tree_info"]]


def _tree(root: dict[str, Any]) -> Tree:
    nodes: list[Leaf | Split] = []
    _append(root, nodes)
    return nodes


def _append(node: dict[str, Any], nodes: list[Leaf | Split]) -> int:
    """Number a node and all below it."""
    at = len(nodes)
    nodes.append(Leaf(float(node.get("leaf_value", 0.0))))
    if "split_feature" not in node:
        return at
    left, right = (_append(node[side], nodes) for side in ("left_child", "right_child"))
    feature = int(node["split_feature"])
    if node["decision_type"] == "==":
        codes = tuple(float(code) for code in str(node["threshold"]).split("||"))
        # An absent category goes to the right, with those that are not named.
        nodes[at] = Split(feature, codes, Mode.MEMBER, False, left, right)
        return at
    threshold = float(node["threshold"])
    if node["missing_type"] == "Zero":
        raise UnsupportedError("LightGBM that takes 0 for absent")
    # Where no value was absent in training, an absent one counts as 0.
    missing = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
    nodes[at] = Split(feature, threshold, Mode.AT_MOST, bool(missing), left, right)
    return at
