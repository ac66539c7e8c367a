"""The trees of scikit-learn's forests, for ONNX."""

from __future__ import annotations

from typing import Any

from beam_fraud.models.onnx.tree_nodes import Leaf, Mode, Split, Tree


def forest_trees(model: Any) -> list[Tree]:
    """The trees of a fitted forest, or of one tree; the sum of what they give is the score.

    Args:
      model: whose trees compare float32 values with float64 thresholds.
    """
    members = getattr(model, "estimators_", [model])
    return [_tree(member.tree_, len(members)) for member in members]


def _tree(tree: Any, trees: int) -> Tree:
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
