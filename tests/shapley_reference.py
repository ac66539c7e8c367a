"""Shapley values of a tree's conditional expectations, computed literally; slow."""

from __future__ import annotations

from itertools import combinations
from math import factorial, isnan
from typing import Any

import numpy as np

from beam_fraud.decisions.reasons.explainer import Floats


def reference_contributions(model: Any, row: Floats) -> Floats:
    """Of a `HistGradientBoostingClassifier` without categories among numbers, one row.

    The expectation given some features goes down a tree by these, and where another feature splits,
    both ways by the shares of training rows.
    """
    prepared = np.asarray(model._preprocess_X(row[None, :], reset=False))[0]
    known, places = model._bin_mapper.make_known_categories_bitsets()
    added = np.zeros(len(row))
    for (tree,) in model._predictors:
        nodes, sets = tree.nodes, tree.raw_left_cat_bitsets

        def left(node: Any, sets: Any = sets) -> bool:
            value = prepared[node["feature_idx"]]
            if isnan(value):
                return bool(node["missing_go_to_left"])
            if not node["is_categorical"]:
                return bool(value <= node["num_threshold"])
            if _in(sets[node["bitset_idx"]], int(value)):
                return True
            seen = _in(known[places[node["feature_idx"]]], int(value))
            return not seen and bool(node["missing_go_to_left"])

        def expected(
            given: frozenset[int], at: int = 0, nodes: Any = nodes, left: Any = left
        ) -> float:
            node = nodes[at]
            if node["is_leaf"]:
                return float(node["value"])
            if node["feature_idx"] in given:
                return expected(given, node["left"] if left(node) else node["right"], nodes, left)
            return sum(
                nodes[child]["count"] / node["count"] * expected(given, child, nodes, left)
                for child in (node["left"], node["right"])
            )

        used = sorted({int(node["feature_idx"]) for node in nodes if not node["is_leaf"]})
        value = {
            frozenset(some): expected(frozenset(some))
            for size in range(len(used) + 1)
            for some in combinations(used, size)
        }
        for feature in used:
            for some in value:
                if feature not in some:
                    ways = factorial(len(some)) * factorial(len(used) - len(some) - 1)
                    difference = value[some | {feature}] - value[some]
                    added[feature] += ways / factorial(len(used)) * difference
    if model.is_categorical_ is None:
        return added
    order = [*np.flatnonzero(model.is_categorical_), *np.flatnonzero(~model.is_categorical_)]
    moved = np.empty(len(row))
    moved[order] = added
    return moved


def _in(words: Any, code: int) -> bool:
    return bool(int(words[code // 32]) >> code % 32 & 1)
