"""The trees of XGBoost, for ONNX."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from beam_fraud.models.onnx.tree_nodes import Leaf, Mode, Split, Tree
from beam_fraud.models.onnx.unsupported import UnsupportedError


def xgboost_trees(model: Any) -> list[Tree]:
    """The trees of a fitted `XGBClassifier`; what they give sums up to log-odds.

    They compare float32 values with float32 thresholds.

    Raises:
      UnsupportedError: its trees are weighted, or it minimises something else than the log loss.
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
    trees += [_tree(tree) for tree in learner["gradient_booster"]["model"]["trees"]]
    return trees


def _tree(tree: dict[str, Any]) -> Tree:
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
        # The shortest decimal that is the same in single precision; it is another one in double.
        condition = float(np.float32(tree["split_conditions"][at]))
        if left < 0:
            nodes.append(Leaf(condition))
        elif at in sets:
            # The codes of the set go to the right, all others to the left.
            nodes.append(Split(feature, sets[at], Mode.MEMBER, not missing, right, left))
        else:
            nodes.append(Split(feature, condition, Mode.BELOW, missing, left, right))
    return nodes
